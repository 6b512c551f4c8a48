package httpapi

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// Status is what the admin port tells of the service: which configuration it
// runs, what came of the last attempt to read another, and how old the issuers'
// keys are.
type Status struct {
	Revision string
	Since    time.Time
	Reload   *Reload // nil: there was none
	Issuers  []Issuer
}

// Reload is what came of reading the configuration again.
type Reload struct {
	At      time.Time
	Result  string
	Problem error // why it is not in use; nil: it is
}

// Issuer is how the keys of one issuer stand.
type Issuer struct {
	URL     string
	Keys    int
	Fetched time.Time // zero: never
	Problem error     // of the last attempt
}

// The JSON of the above.
type (
	probe struct {
		Status   string
		Reason   string       `json:",omitempty"`
		Revision string       `json:",omitempty"`
		Since    string       `json:",omitempty"`
		Reload   *reloadView  `json:",omitempty"`
		Issuers  []issuerView `json:",omitempty"`
	}
	reloadView struct {
		At      string
		Result  string
		Problem string `json:",omitempty"`
	}
	issuerView struct {
		Issuer     string
		Keys       int
		AgeSeconds *int   `json:",omitempty"` // of the keys; absent: there are none
		Problem    string `json:",omitempty"`
	}
)

// GET /healthz
func (a *API) healthz(c echo.Context) error {
	return sendJSON(c, http.StatusOK, []byte(`{"Status":"ok"}`))
}

// GET /readyz
func (a *API) readyz(detail bool) echo.HandlerFunc {
	return func(c echo.Context) error {
		answer, status := probe{Status: "ready"}, http.StatusOK
		err := a.cfg.Ready()
		if err != nil {
			answer.Status, status = "not ready", http.StatusServiceUnavailable
		}
		if detail {
			answer.Reason = text(err)
			if a.cfg.Status != nil {
				answer.describe(a.cfg.Status(), a.cfg.Now())
			}
		}
		body, err := marshal(answer)
		if err != nil {
			return err
		}
		return sendJSON(c, status, body)
	}
}

// describe fills in the detail.
func (p *probe) describe(s Status, now time.Time) {
	p.Revision, p.Since = s.Revision, instant(s.Since)
	if s.Reload != nil {
		p.Reload = &reloadView{At: instant(s.Reload.At), Result: s.Reload.Result, Problem: text(s.Reload.Problem)}
	}
	for _, i := range s.Issuers {
		view := issuerView{Issuer: i.URL, Keys: i.Keys, Problem: text(i.Problem)}
		if !i.Fetched.IsZero() {
			age := int(now.Sub(i.Fetched).Seconds())
			view.AgeSeconds = &age
		}
		p.Issuers = append(p.Issuers, view)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
