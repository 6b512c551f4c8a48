package serve_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
)

// piece is how much of a secret may be seen: less than this many characters. A
// secret is looked for in every way to write it; as numbers, a character takes
// more, and so must a piece.
const (
	piece        = 16
	numbersPiece = 48
)

// canaries are values that must not be seen. It is safe for concurrent use.
type canaries struct {
	mu     sync.Mutex
	pieces map[string]string // :: piece → whose it is
}

func (c *canaries) add(name string, value []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pieces == nil {
		c.pieces = map[string]string{}
	}
	cut := func(text string, size int) {
		for i := 0; i+size <= len(text); i++ {
			c.pieces[text[i:i+size]] = name
		}
	}
	text := string(value)
	cut(text, piece)
	cut(url.QueryEscape(text), piece)
	cut(url.PathEscape(text), piece)
	cut(hex.EncodeToString(value), piece)
	cut(strings.ToUpper(hex.EncodeToString(value)), piece)
	for from := range 3 { // as a part of something longer, base64 begins anew at any of three places
		cut(base64.RawStdEncoding.EncodeToString(value[from:]), piece)
		cut(base64.RawURLEncoding.EncodeToString(value[from:]), piece)
	}
	numbers := strings.Trim(fmt.Sprintf("%d", value), "[]")
	cut(numbers, numbersPiece)
	cut(strings.ReplaceAll(numbers, " ", ","), numbersPiece)
	cut(strings.ReplaceAll(numbers, " ", ", "), numbersPiece)
	cut(strings.TrimPrefix(fmt.Sprintf("%#v", value), "[]byte{"), numbersPiece)
}

// addToken adds the three parts of a token, and what its signature is.
func (c *canaries) addToken(name, token string) {
	parts := strings.Split(token, ".")
	for i, part := range []string{"header", "payload", "signature"} {
		c.add(name+"'s "+part, []byte(parts[i]))
	}
	if signature, err := base64.RawURLEncoding.DecodeString(parts[2]); err == nil {
		c.add(name+"'s signature", signature)
	}
}

// hide adds what is private of a signing key's file, and returns the key. Its public
// half is published, and stands in the same file.
func hide(t testing.TB, c *canaries, file string) crypto.Signer {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key := parsed.(*ecdsa.PrivateKey)
	private, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	c.add("a signing key", private)
	c.add("a signing key in decimal", []byte(new(big.Int).SetBytes(private).String())) // as fmt prints it
	c.add("a signing key's file", block.Bytes[:bytes.Index(block.Bytes, public)])
	return key
}

// in returns whose piece is in a text, with the text around it, or nothing.
func (c *canaries) in(text string) (name, around string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range text {
		for _, size := range []int{piece, numbersPiece} {
			if i+size > len(text) {
				continue
			}
			if name, ok := c.pieces[text[i:i+size]]; ok {
				return name, text[max(0, i-80):min(len(text), i+size+80)]
			}
		}
	}
	return "", ""
}

// unseen fails if any is in the text.
func (c *canaries) unseen(t testing.TB, where, text string) {
	t.Helper()
	if name, around := c.in(text); name != "" {
		t.Errorf("%s: %s is in …%s…", where, name, around)
	}
}

// Whoever looks must be able to see: each way to write a secret, each piece.
func TestACanaryIsSeenHoweverItIsWritten(t *testing.T) {
	var c canaries
	value := []byte("s3cr+t/k=y&" + strings.Repeat("Zq9", 20))
	c.add("it", value)
	c.addToken("token", "aaaabbbbccccdddd1.eeeeffffgggghhhh2.aWlpaWpqampra2tr")
	for name, text := range map[string]string{
		"raw": string(value), "its beginning": string(value[:piece]), "its end": string(value[len(value)-piece:]), "base64": base64.StdEncoding.EncodeToString(value),
		"base64, within": base64.StdEncoding.EncodeToString(append([]byte("x"), value...)), "base64url": base64.URLEncoding.EncodeToString(append([]byte("xy"), value...)),
		"hex": fmt.Sprintf("%x", value), "HEX": fmt.Sprintf("%X", value), "in a query": url.Values{"a": {string(value)}}.Encode(), "in a path": url.PathEscape(string(value)),
		"%v of bytes": fmt.Sprintf("%d", value), "%#v of bytes": fmt.Sprintf("%#v", value), "%d in JSON": strings.Trim(strings.Join(strings.Fields(fmt.Sprintf("%d", value)), ","), "[]"),
		"header": "aaaabbbbccccdddd", "payload": "eeeeffffgggghhhh", "signature": "aWlpaWpqampra2tr", "signature's bytes": hex.EncodeToString([]byte("iiiijjjjkkkk")),
	} {
		if found, _ := c.in("before " + text + " after"); found == "" {
			t.Errorf("%s: not seen in %s", name, text)
		}
	}
	for _, text := range []string{"", string(value[:piece-1]), strings.Repeat("[redacted] ", 20), "aaaabbbbccccddd"} {
		if found, around := c.in(text); found != "" {
			t.Errorf("%s is seen in %s", found, around)
		}
	}
}
