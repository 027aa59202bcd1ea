package server

import (
	"fmt"

	"hookbolt/engine"
	"hookbolt/internal/config"
	"hookbolt/storage"
)

// Check returns why a server with valid settings could not start, as far as that can be found out without a start. The error begins with
// the name of a setting.
func Check(c *config.Config) error {
	if c.HTTP.TLSCertFile != "" {
		if _, err := readCertificate(c.HTTP.TLSCertFile, c.HTTP.TLSKeyFile, nil); err != nil {
			return err
		}
	}
	if err := engine.CheckTLSFiles(c.Delivery.CAFile, c.Delivery.TLSDir); err != nil {
		return err
	}
	if c.Storage.Driver == config.DriverBolt {
		if _, err := lacksDirectory(c.Storage.Path); err != nil {
			return err
		}
	}
	if err := storage.Check(storageSettings(c)); err != nil {
		return err
	}
	return checkOperationsAddress(c)
}

// checkOperationsAddress returns an error if a new operations_url or operations_smtp is an address that is refused. Validate of the settings does not check
// this: it makes no difference if the webhook exists already, or if nothing is delivered.
func checkOperationsAddress(c *config.Config) error {
	setting, url := c.Delivery.Operations()
	if err := engine.CheckOperationsAddress(url, c.Delivery.Networks()); err != nil {
		return fmt.Errorf("%s: %w", setting, err)
	}
	return nil
}
