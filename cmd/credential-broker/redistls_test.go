package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"credential-broker/broker/brokertest/localredis"
	"credential-broker/cmd/credential-broker/servetest"
)

// authority is one that signs certificates for this test alone.
type authority struct {
	*fleet
	folder string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
}

func newAuthority(f *fleet) *authority {
	f.Helper()
	a := &authority{fleet: f, folder: f.TempDir()}
	a.key = a.newKey("ca")
	var err error
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "private"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if a.cert, err = x509.ParseCertificate(a.sign("ca", template, template)); err != nil {
		f.Fatal(err)
	}
	return a
}

func (a *authority) newKey(name string) *ecdsa.PrivateKey {
	a.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.Fatal(err)
	}
	a.write(a.folder+"/"+name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	if a.key == nil {
		a.key = key
	}
	return key
}

func (a *authority) sign(name string, template, parent *x509.Certificate) []byte {
	a.Helper()
	key := a.key
	if template != parent {
		key = a.newKey(name)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		a.Fatal(err)
	}
	a.write(a.folder+"/"+name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return der
}

// serves makes a certificate for a name, and what redis-server has to be told of it:
// besides the port without TLS it has one with it.
func (a *authority) serves(name string) (args []string, port int) {
	a.Helper()
	a.sign(name, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, a.cert)
	l, where := servetest.Listen(a.T)
	_ = l.Close()
	port, err := strconv.Atoi(where[strings.LastIndexByte(where, ':')+1:])
	if err != nil {
		a.Fatal(err)
	}
	return []string{
		"--tls-port", strconv.Itoa(port), "--tls-cert-file", a.folder + "/" + name + ".pem", "--tls-key-file", a.folder + "/" + name + ".key",
		"--tls-ca-cert-file", a.folder + "/ca.pem", "--tls-auth-clients", "no",
	}, port
}

// Redis by TLS with a certificate of a private authority, and a user that may do what
// deploy/scaling.md says: brokers that know the authority share, and hear each other's
// log-outs. Who does not know it, finds another name there, or has a wrong password
// shares nothing, says why, and answers all the same. Threat cases SC14 and SC21.
func TestReplicasShareByTLS(t *testing.T) {
	text, err := os.ReadFile("../../deploy/scaling.md")
	if err != nil {
		t.Fatal(err)
	}
	rights := regexp.MustCompile(`(?m)^user broker on #\$\(.*\) (~.+)$`).FindSubmatch(text)
	if rights == nil {
		t.Fatal("no rights are named")
	}
	user := append([]string{"--user", "default", "off", "--user", "broker", "on", ">a-password"}, strings.Fields(string(rights[1]))...)

	f := newFleet(t, true, time.Hour)
	a := newAuthority(f)
	args, port := a.serves("localhost")
	localredis.Start(t, append(args, user...)...)
	known := "SSL_CERT_FILE=" + a.folder + "/ca.pem"
	url := fmt.Sprintf("rediss://broker:a-password@localhost:%d", port)
	c := f.callers("s", 2, nil)
	for range 2 {
		f.start(url, known)
	}
	id := f.credentials(f.replicas[0].public, c[0])
	if f.credentials(f.replicas[1].public, c[0]) != id {
		t.Error("nothing is shared")
	}
	if status, body := f.ask(http.MethodDelete, f.replicas[0].public+"/v1/credentials", c[0].token); status != http.StatusNoContent {
		t.Errorf("%d %s", status, body)
	}
	f.forgotten(c[0], id, f.replicas...)

	args, elsewhere := a.serves("elsewhere.test")
	localredis.Start(t, append(args, user...)...)
	for name, no := range map[string]struct{ url, env, why string }{
		"another authority": {url, "SSL_CERT_FILE=/dev/null", "x509: certificate signed by unknown authority"},
		"another name":      {fmt.Sprintf("rediss://broker:a-password@localhost:%d", elsewhere), known, "x509: certificate is valid for elsewhere.test, not localhost"},
		"another password":  {strings.Replace(url, "a-password", "wrong", 1), known, "WRONGPASS"},
		"no TLS there":      {fmt.Sprintf("rediss://broker:a-password@localhost:%d", f.redis.Port), known, "deadline exceeded"}, // a Redis takes the greeting for the beginning of a command, and waits for its end
	} {
		p := f.launch(no.url, no.env)
		f.until(p, "shared_cache_up", 0)
		f.credentials(p.public, c[1])
		f.await(name+" is said", func() bool { return strings.Contains(p.warnings(), no.why) })
		if strings.Contains(p.warnings(), "a-password") || strings.Contains(p.warnings(), "wrong") {
			t.Errorf("%s: the password is said", name)
		}
		if f.metric(p, "shared_cache_up") != 0 {
			t.Errorf("%s: it shares", name)
		}
		p.stop(syscall.SIGKILL)
	}
}
