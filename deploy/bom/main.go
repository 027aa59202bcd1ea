// Command bom writes what a release says about the modules that are linked into a binary: a bill of materials in CycloneDX's JSON, and the
// texts of their licences. It takes both from the binary and from the module cache, so the same binary gives the same bytes.
//
//	go run ./deploy/bom BINARY SBOM.cdx.json NOTICES.txt
package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/google/uuid"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: go run ./deploy/bom BINARY SBOM NOTICES")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "bom:", err)
		os.Exit(1)
	}
}

// run writes the two files for a binary.
func run(binary, bomPath, noticesPath string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	parts, err := partsOf(info)
	if err != nil {
		return err
	}
	bom, err := bomOf(info, parts)
	if err != nil {
		return err
	}
	if err := os.WriteFile(bomPath, bom, 0o644); err != nil {
		return err
	}
	return os.WriteFile(noticesPath, noticesOf(parts), 0o644)
}

// part is something of other people's that is linked into the binary.
type part struct {
	path, version, sum string
	licence            string // SPDX id
	texts              []text
}

// text is a file of a licence.
type text struct {
	name string
	body []byte
}

// partsOf returns Go's standard library and the modules of a binary, with their licences.
func partsOf(info *buildinfo.BuildInfo) ([]part, error) {
	root, err := output("go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	std := part{path: "std", version: strings.TrimPrefix(info.GoVersion, "go")}
	if std.licence, std.texts, err = licenceIn(root); err != nil {
		return nil, err
	}
	parts := []part{std}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		p := part{path: m.Path, version: m.Version, sum: m.Sum}
		dir, err := output("go", "list", "-m", "-f", "{{.Dir}}", m.Path)
		if err != nil {
			return nil, err
		}
		if p.licence, p.texts, err = licenceIn(dir); err != nil {
			return nil, fmt.Errorf("%s: %w", m.Path, err)
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func output(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([.-].*)?$`)

// licenceIn reads the files of the licence in the top directory of a module.
func licenceIn(dir string) (id string, texts []text, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", nil, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !licenceFile.MatchString(e.Name()) {
			continue
		}
		body, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return "", nil, err
		}
		texts = append(texts, text{e.Name(), body})
		if id == "" {
			id = licenceID(body)
		}
	}
	if id == "" {
		return "", nil, fmt.Errorf("no licence that is known in %s: look at it, and add what tells it to licenceID", dir)
	}
	return id, texts, nil
}

// licenceID tells a licence by a sentence that no other one has. It returns "" for one that it does not know.
func licenceID(body []byte) string {
	words := strings.Join(strings.Fields(string(body)), " ")
	for _, l := range []struct{ id, sentence string }{
		{"Apache-2.0", "Apache License Version 2.0, January 2004"},
		{"MIT", "Permission is hereby granted, free of charge, to any person obtaining a copy"},
		{"BSD-3-Clause", "may be used to endorse or promote products derived from"},
		{"BSD-2-Clause", "Redistribution and use in source and binary forms"},
		{"ISC", "Permission to use, copy, modify, and/or distribute this software for any purpose"},
	} {
		if strings.Contains(words, l.sentence) {
			return l.id
		}
	}
	return ""
}

// What is written of CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/).
type (
	document struct {
		Schema       string       `json:"$schema"`
		Format       string       `json:"bomFormat"`
		SpecVersion  string       `json:"specVersion"`
		SerialNumber string       `json:"serialNumber"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Timestamp  string     `json:"timestamp,omitempty"`
		Component  component  `json:"component"`
		Properties []property `json:"properties"`
	}
	component struct {
		Type     string    `json:"type"`
		Ref      string    `json:"bom-ref"`
		Name     string    `json:"name"`
		Version  string    `json:"version"`
		PURL     string    `json:"purl"`
		Hashes   []hash    `json:"hashes,omitempty"`
		Licenses []license `json:"licenses"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	license struct {
		License struct {
			ID string `json:"id"`
		} `json:"license"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn,omitempty"`
	}
)

// componentOf describes a part. The hash is that of go.sum: of the list of the module's files.
func componentOf(kind string, p part) component {
	url := "pkg:golang/" + p.path + "@" + p.version
	c := component{Type: kind, Ref: url, Name: p.path, Version: p.version, PURL: url}
	var l license
	l.License.ID = p.licence
	c.Licenses = []license{l}
	if sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(p.sum, "h1:")); err == nil && len(sum) > 0 {
		c.Hashes = []hash{{"SHA-256", hex.EncodeToString(sum)}}
	}
	return c
}

// bomOf writes the bill of materials. Its serial number is made of its content.
func bomOf(info *buildinfo.BuildInfo, parts []part) ([]byte, error) {
	own := componentOf("application", part{path: info.Main.Path, version: info.Main.Version, licence: "MIT"})
	d := document{Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", Version: 1, Components: []component{}}
	d.Metadata = metadata{Timestamp: setting(info, "vcs.time"), Component: own, Properties: []property{
		{"hookbolt:go", info.GoVersion}, {"hookbolt:os", setting(info, "GOOS")}, {"hookbolt:architecture", setting(info, "GOARCH")},
		{"hookbolt:revision", setting(info, "vcs.revision")},
	}}
	all := dependency{Ref: own.Ref}
	for _, p := range parts {
		c := componentOf("library", p)
		d.Components = append(d.Components, c)
		all.DependsOn = append(all.DependsOn, c.Ref)
	}
	d.Dependencies = []dependency{all}
	content, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	d.SerialNumber = "urn:uuid:" + uuid.NewSHA1(uuid.NameSpaceURL, content).String()
	written, err := json.MarshalIndent(d, "", "  ")
	return append(written, '\n'), err
}

func setting(info *buildinfo.BuildInfo, key string) string {
	i := slices.IndexFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == key })
	if i < 0 {
		return ""
	}
	return info.Settings[i].Value
}

// noticesOf writes the texts of all licences.
func noticesOf(parts []part) []byte {
	var b bytes.Buffer
	b.WriteString("hookbolt has parts of other people's in it. These are their names, versions and licences.\n")
	for _, p := range parts {
		name := p.path
		if name == "std" {
			name = "Go standard library"
		}
		fmt.Fprintf(&b, "\n%s\n%s %s (%s)\n", strings.Repeat("=", 80), name, p.version, p.licence)
		for _, t := range p.texts {
			fmt.Fprintf(&b, "\n--- %s\n\n%s\n", t.name, bytes.TrimSpace(t.body))
		}
	}
	return b.Bytes()
}
