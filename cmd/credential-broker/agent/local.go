package agent

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
)

// Listen opens a loopback address; the port 0 is any that is free. An address that
// another machine could reach is refused.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, OptionsError{fmt.Errorf("--listen %q: host:port is needed", address)}
	}
	if !isLoopback(host) {
		return nil, OptionsError{fmt.Errorf("--listen %q: only a loopback address is listened on, such as 127.0.0.1:%s", address, port)}
	}
	if net.ParseIP(host) == nil {
		host = "127.0.0.1" // and not what a name service says
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l, nil
}

// minAuthorization is what nobody guesses: 128 bits, in hexadecimal or more.
const minAuthorization = 32

// ReadAuthorization reads the file that programs show; where there is none it is
// made, with 256 random bits and with that mode. Others must not be able to read it.
func ReadAuthorization(path string, mode os.FileMode) (*Authorization, error) {
	err := makeAuthorization(path, mode)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the authorization token: %w", err)
	}
	data, err := readSmall(path, maxSecretBytes, true)
	if err != nil {
		return nil, fmt.Errorf("read the authorization token: %w", err)
	}
	if len(data) < minAuthorization {
		return nil, fmt.Errorf("read the authorization token: %s has %d bytes; at least %d are needed", path, len(data), minAuthorization)
	}
	for _, b := range data {
		if b <= ' ' || b > '~' {
			// The SDKs show the file as it is, and refuse one with a newline.
			return nil, fmt.Errorf("read the authorization token: %s holds a space, a newline or another character that a header cannot have", path)
		}
	}
	return &Authorization{sha256.Sum256(data)}, nil
}

// makeAuthorization fails with fs.ErrExist where there is something, be it a link.
func makeAuthorization(path string, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the operator names the file
	if err != nil {
		return err
	}
	_, err = f.WriteString(rand.Text() + rand.Text()) // 128 bits and more each
	return errors.Join(err, f.Chmod(mode), f.Close())
}
