package deploy

import (
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pb33f/go-yaml"

	"hookbolt/internal/config"
	"hookbolt/internal/hookbolttest"
	"hookbolt/internal/systemd"
)

// The fields of Kubernetes's API that kubernetes.yaml may have, as its reference names them.
type (
	kubeLabels   map[string]string
	kubeSelector struct {
		MatchLabels kubeLabels `yaml:"matchLabels"`
	}
	kubeMetadata struct {
		Name   string     `yaml:"name"`
		Labels kubeLabels `yaml:"labels"`
	}
	kubeProbe struct {
		HTTPGet struct {
			Path string `yaml:"path"`
			Port string `yaml:"port"`
		} `yaml:"httpGet"`
		PeriodSeconds    int `yaml:"periodSeconds"`
		TimeoutSeconds   int `yaml:"timeoutSeconds"`
		FailureThreshold int `yaml:"failureThreshold"`
	}
	kubeContainer struct {
		Name  string   `yaml:"name"`
		Image string   `yaml:"image"`
		Args  []string `yaml:"args"`
		Ports []struct {
			Name          string `yaml:"name"`
			ContainerPort int    `yaml:"containerPort"`
		} `yaml:"ports"`
		Env []struct {
			Name  string `yaml:"name"`
			Value string `yaml:"value"`
		} `yaml:"env"`
		VolumeMounts []struct {
			Name      string `yaml:"name"`
			MountPath string `yaml:"mountPath"`
			ReadOnly  bool   `yaml:"readOnly"`
		} `yaml:"volumeMounts"`
		StartupProbe   kubeProbe `yaml:"startupProbe"`
		LivenessProbe  kubeProbe `yaml:"livenessProbe"`
		ReadinessProbe kubeProbe `yaml:"readinessProbe"`
		Resources      struct {
			Requests kubeLabels `yaml:"requests"`
			Limits   kubeLabels `yaml:"limits"`
		} `yaml:"resources"`
		SecurityContext struct {
			AllowPrivilegeEscalation bool `yaml:"allowPrivilegeEscalation"`
			ReadOnlyRootFilesystem   bool `yaml:"readOnlyRootFilesystem"`
			Capabilities             struct {
				Drop []string `yaml:"drop"`
			} `yaml:"capabilities"`
		} `yaml:"securityContext"`
	}
	kubePod struct {
		TerminationGracePeriodSeconds int  `yaml:"terminationGracePeriodSeconds"`
		EnableServiceLinks            bool `yaml:"enableServiceLinks"`
		AutomountServiceAccountToken  bool `yaml:"automountServiceAccountToken"`
		SecurityContext               struct {
			RunAsNonRoot   bool `yaml:"runAsNonRoot"`
			RunAsUser      int  `yaml:"runAsUser"`
			RunAsGroup     int  `yaml:"runAsGroup"`
			FSGroup        int  `yaml:"fsGroup"`
			SeccompProfile struct {
				Type string `yaml:"type"`
			} `yaml:"seccompProfile"`
		} `yaml:"securityContext"`
		TopologySpreadConstraints []struct {
			MaxSkew           int          `yaml:"maxSkew"`
			TopologyKey       string       `yaml:"topologyKey"`
			WhenUnsatisfiable string       `yaml:"whenUnsatisfiable"`
			LabelSelector     kubeSelector `yaml:"labelSelector"`
		} `yaml:"topologySpreadConstraints"`
		Containers []kubeContainer `yaml:"containers"`
		Volumes    []struct {
			Name   string `yaml:"name"`
			Secret struct {
				SecretName string `yaml:"secretName"`
			} `yaml:"secret"`
		} `yaml:"volumes"`
	}
	kubeHead struct {
		APIVersion string       `yaml:"apiVersion"`
		Kind       string       `yaml:"kind"`
		Metadata   kubeMetadata `yaml:"metadata"`
	}
	kubeDeployment struct {
		kubeHead `yaml:",inline"`
		Spec     struct {
			Replicas int          `yaml:"replicas"`
			Selector kubeSelector `yaml:"selector"`
			Strategy struct {
				Type          string `yaml:"type"`
				RollingUpdate struct {
					MaxSurge       int `yaml:"maxSurge"`
					MaxUnavailable int `yaml:"maxUnavailable"`
				} `yaml:"rollingUpdate"`
			} `yaml:"strategy"`
			Template struct {
				Metadata kubeMetadata `yaml:"metadata"`
				Spec     kubePod      `yaml:"spec"`
			} `yaml:"template"`
		} `yaml:"spec"`
	}
	kubeService struct {
		kubeHead `yaml:",inline"`
		Spec     struct {
			Selector kubeLabels `yaml:"selector"`
			Ports    []struct {
				Name       string `yaml:"name"`
				Port       int    `yaml:"port"`
				TargetPort string `yaml:"targetPort"`
			} `yaml:"ports"`
		} `yaml:"spec"`
	}
	kubeBudget struct {
		kubeHead `yaml:",inline"`
		Spec     struct {
			MaxUnavailable int          `yaml:"maxUnavailable"`
			Selector       kubeSelector `yaml:"selector"`
		} `yaml:"spec"`
	}
)

// readKubernetes reads the three objects of kubernetes.yaml, in order. A field that they should not have is an error.
func readKubernetes(text string) (d kubeDeployment, s kubeService, b kubeBudget, err error) {
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	if err := errors.Join(decoder.Decode(&d), decoder.Decode(&s), decoder.Decode(&b)); err != nil {
		return d, s, b, err
	}
	if err := decoder.Decode(new(any)); err != io.EOF {
		return d, s, b, errors.New("there is more than three objects")
	}
	return d, s, b, nil
}

// The example for Kubernetes has no field that Kubernetes does not know, its parts fit together, and it leaves a member the time that a stop takes.
func TestKubernetes(t *testing.T) {
	text := hookbolttest.ReadFile(t, "deploy/kubernetes.yaml")
	d, s, b, err := readKubernetes(text)
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		d.APIVersion + " " + d.Kind: "apps/v1 Deployment", s.APIVersion + " " + s.Kind: "v1 Service", b.APIVersion + " " + b.Kind: "policy/v1 PodDisruptionBudget",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	pod := d.Spec.Template.Spec
	labels := d.Spec.Template.Metadata.Labels
	for _, selected := range []kubeLabels{d.Spec.Selector.MatchLabels, s.Spec.Selector, b.Spec.Selector.MatchLabels, pod.TopologySpreadConstraints[0].LabelSelector.MatchLabels} {
		if len(selected) == 0 || !maps.Equal(selected, labels) {
			t.Errorf("%v selects no pod with the labels %v", selected, labels)
		}
	}
	c := pod.Containers[0]
	if d.Spec.Replicas <= b.Spec.MaxUnavailable || s.Spec.Ports[0].TargetPort != c.Ports[0].Name || c.VolumeMounts[0].Name != pod.Volumes[0].Name {
		t.Errorf("the parts do not fit together: %+v %+v %+v", d, s, b)
	}
	for path, probes := range map[string][]kubeProbe{"/healthz": {c.StartupProbe, c.LivenessProbe}, "/readyz": {c.ReadinessProbe}} {
		for _, p := range probes {
			if p.HTTPGet.Path != path || p.HTTPGet.Port != c.Ports[0].Name || p.PeriodSeconds == 0 || p.FailureThreshold == 0 {
				t.Errorf("a probe of %s is %+v", path, p)
			}
		}
	}

	// The settings are hookbolt's, and the files are those of the secret.
	var environ []string
	for _, variable := range c.Env {
		value := strings.ReplaceAll(variable.Value, c.VolumeMounts[0].MountPath, t.TempDir())
		if strings.HasSuffix(variable.Name, "_FILE") {
			hookbolttest.Write(t, value, "postgres://hookbolt@127.0.0.1/hookbolt")
			if key := variable.Value[strings.LastIndex(variable.Value, "/")+1:]; !strings.Contains(text, "--from-literal="+key+"=") {
				t.Errorf("the secret has no %s", key)
			}
		}
		environ = append(environ, variable.Name+"="+value)
	}
	cfg, _, err := (&config.Loader{Environ: environ}).Load()
	if err != nil || cfg.Storage.Driver != config.DriverPostgres {
		t.Fatalf("its settings: %v", err)
	}
	if grace, end := time.Duration(pod.TerminationGracePeriodSeconds)*time.Second, time.Duration(cfg.HTTP.ShutdownDelay+cfg.HTTP.ShutdownTimeout)+systemd.ClosingTime; grace <= end {
		t.Errorf("terminationGracePeriodSeconds is %v, and an end may take %v", grace, end)
	}
	if noticed := time.Duration(c.ReadinessProbe.PeriodSeconds*c.ReadinessProbe.FailureThreshold) * time.Second; noticed >= time.Duration(cfg.HTTP.ShutdownDelay) {
		t.Errorf("a pod that is not ready is noticed after %v, and requests are taken for %v", noticed, cfg.HTTP.ShutdownDelay)
	}
	if !slices.Equal(c.Args, []string{"serve"}) {
		t.Errorf("it runs %q", c.Args)
	}

	// What is misspelt is noticed.
	if _, _, _, err := readKubernetes(strings.Replace(text, "terminationGracePeriodSeconds", "terminationGracePeriod", 1)); err == nil {
		t.Error("a field that is none is not noticed")
	}
}
