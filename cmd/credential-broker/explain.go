package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"credential-broker/cmd/credential-broker/explain"
)

type explainCmd struct {
	TokenFile string    `help:"A caller's access token; - is standard input. Neither it nor its signature is printed." required:"" placeholder:"FILE"`
	Grant     string    `help:"The grant, as a request names it."`
	Access    string    `help:"Of list,read,write,delete." placeholder:"LIST"`
	Path      string    `help:"Below the prefix."`
	Duration  string    `help:"Seconds, or such as 20m."`
	Tenant    string    `help:"The tenant, for a grant that lets the request name it."`
	Address   string    `help:"The caller's address, for a grant that binds it." placeholder:"IP"`
	JWKS      string    `name:"jwks" help:"The issuer's keys; without it, the issuers of the configuration are asked." placeholder:"FILE"`
	At        time.Time `help:"Explain what was answered then (RFC 3339), under this configuration." placeholder:"TIME"`
	JSON      bool      `name:"json" help:"Print one JSON document."`
}

// errDenied ends an explanation that has said why.
var errDenied = errors.New("the request is refused")

// Run explains one request. It exits 1 where the request is refused.
func (c explainCmd) Run(w *world) error {
	cfg, err := w.read()
	if err != nil {
		return err
	}
	token, err := readToken(c.TokenFile)
	if err != nil {
		return usageError{err}
	}
	o := explain.Options{}
	if !c.At.IsZero() {
		o.Now = func() time.Time { return c.At }
	}
	if c.JWKS != "" {
		if o.JWKS, err = os.ReadFile(c.JWKS); err != nil {
			return usageError{fmt.Errorf("read keys: %w", err)}
		}
		if !explain.IsKeySet(o.JWKS) {
			return usageError{fmt.Errorf("%s is no JWK set (an object with keys), as an issuer's jwks_uri gives it", c.JWKS)}
		}
	}
	engine, err := explain.New(w.ctx, cfg, o)
	if err != nil {
		return err
	}
	defer engine.Close()
	v, err := engine.Explain(w.ctx, explain.Request{
		Token: token, Grant: c.Grant, Access: c.Access, Path: c.Path, Duration: c.Duration, Tenant: c.Tenant, Address: c.Address,
	})
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(w.stdout, v)
	} else {
		explain.Print(w.stdout, v, w.coloured())
	}
	if err == nil && !v.Allowed {
		return errDenied
	}
	return err
}

// printJSON prints one document. Nothing here is HTML.
func printJSON(to io.Writer, v any) error {
	out := json.NewEncoder(to)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(v)
}

// coloured reports whether standard output is a terminal that is not asked to do
// without colours (https://no-color.org).
func (w *world) coloured() bool {
	file, ok := w.stdout.(*os.File)
	if !ok {
		return false
	}
	none, _ := w.lookup("NO_COLOR")
	term, _ := w.lookup("TERM")
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && none == "" && term != "dumb"
}
