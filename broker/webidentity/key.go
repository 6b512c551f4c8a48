package webidentity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// readKey reads the one private key in a PEM file and says which algorithm it
// signs with. An error names what is wrong and never a byte of the file.
func readKey(data []byte) (crypto.Signer, string, error) {
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, "", errors.New("no PEM block")
	}
	if block.Type == "EC PARAMETERS" { // what `openssl ecparam -genkey` puts in front
		if block, rest = pem.Decode(rest); block == nil {
			return nil, "", errors.New("no PEM block after the EC parameters")
		}
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, "", errors.New("more than one PEM block; one key a file")
	}
	key, err := parseKey(block)
	if err != nil {
		return nil, "", err
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if bits := k.N.BitLen(); bits < 2048 || bits > 4096 {
			return nil, "", fmt.Errorf("RSA of %d bits; 2048 to 4096 are taken", bits)
		}
		return k, "RS256", nil
	case *ecdsa.PrivateKey:
		if k.Curve != elliptic.P256() {
			return nil, "", fmt.Errorf("curve %s; P-256 is taken", k.Params().Name)
		}
		return k, "ES256", nil
	default:
		return nil, "", errors.New("neither RSA nor ECDSA")
	}
}

func parseKey(block *pem.Block) (any, error) {
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, errors.New("PEM block is not an unencrypted PKCS#8, PKCS#1 or SEC1 private key")
	}
	if err != nil {
		return nil, errors.New("not a readable private key") // the parser's own words could hold parts of it
	}
	return key, nil
}
