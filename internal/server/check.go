package server

import (
	"fmt"

	"hookbolt/engine"
	"hookbolt/internal/config"
)

// Check finds what keeps a server from starting with valid settings, as far as that can be told without a start. The error begins with the
// name of a setting.
func Check(c *config.Config) error {
	if c.HTTP.TLSCertFile != "" {
		if _, err := readCertificate(c.HTTP.TLSCertFile, c.HTTP.TLSKeyFile, nil); err != nil {
			return err
		}
	}
	if _, err := lacksDirectory(c.Storage.Path); err != nil {
		return err
	}
	return checkOperationsAddress(c)
}

// checkOperationsAddress finds whether a new operations_url is an address that is refused. The validation of the settings leaves that out:
// it does not matter where the webhook is there already, or nothing is delivered.
func checkOperationsAddress(c *config.Config) error {
	if err := engine.CheckOperationsAddress(c.Delivery.OperationsURL, c.Delivery.Networks()); err != nil {
		return fmt.Errorf("delivery.operations_url: %w", err)
	}
	return nil
}
