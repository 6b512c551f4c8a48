package localauth0

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
)

// pageText is both pages: the chooser and the refusal. html/template escapes whatever is put in.
const pageText = `{{define "head"}}<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}} · local Auth0</title>
<style nonce="{{.Nonce}}">
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: Canvas; color: CanvasText; }
main { width: min(26rem, calc(100vw - 2rem)); padding: 2rem 0; }
h1 { font-size: 1.4rem; margin: 0 0 .5rem; }
ul { list-style: none; margin: 1.5rem 0; padding: 0; display: grid; gap: .75rem; }
button { width: 100%; padding: .75rem 1rem; font: inherit; text-align: left; cursor: pointer;
  border: 1px solid GrayText; border-radius: .5rem; background: ButtonFace; color: ButtonText; }
button:hover { border-color: Highlight; }
button:focus-visible { outline: 3px solid Highlight; outline-offset: 2px; }
button span { display: block; font-size: .875rem; }
.name { font-weight: 600; font-size: 1rem; }
.cancel { width: auto; padding: .4rem 1rem; }
code { overflow-wrap: anywhere; }
</style>
</head>
<body>
<main>
<h1>{{.Title}}</h1>
{{end}}
{{define "chooser"}}{{template "head" .}}<p><strong>{{.Client}}</strong> wants to know who you are. This is a local stand-in for Auth0: pick a
demo user, no password needed.</p>
<form method="post" action="/u/login">
{{range $name, $value := .Params}}<input type="hidden" name="{{$name}}" value="{{$value}}">
{{end}}<ul>
{{range .Users}}<li><button type="submit" name="user" value="{{.Email}}"{{if .Hinted}} autofocus{{end}}><span class="name">{{.Name}}</span>
<span>{{.Email}}</span><span>{{with .Organization}}Organization {{.}}{{else}}No organization{{end}}</span></button></li>
{{end}}</ul>
<button class="cancel" type="submit" name="user" value="">Cancel</button>
</form>
</main>
</body>
</html>
{{end}}
{{define "refusal"}}{{template "head" .}}<p>{{.Description}}</p>
<p><code>{{.Code}}</code></p>
</main>
</body>
</html>
{{end}}`

type pageHead struct {
	Title string
	Nonce string
}

type chooserPage struct {
	pageHead
	Client string
	Params params
	Users  []chooserUser
}

type chooserUser struct {
	Name, Email, Organization string
	Hinted                    bool
}

type refusalPage struct {
	pageHead
	Code, Description string
}

func parseChooser() (*template.Template, error) {
	t, err := template.New("pages").Parse(pageText)
	if err != nil {
		return nil, fmt.Errorf("parse pages: %w", err)
	}
	return t, nil
}

func (s *Server) showChooser(w http.ResponseWriter, req *authRequest) {
	page := chooserPage{pageHead: pageHead{"Choose a demo user", randomToken()}, Client: req.client.Name, Params: params{}}
	if page.Client == "" {
		page.Client = req.client.ID
	}
	for name, value := range req.params {
		if name != "user" { // the button's own name
			page.Params[name] = value
		}
	}
	for _, u := range s.cfg.Users {
		page.Users = append(page.Users, chooserUser{u.Name, u.Email, u.Organization, u.Email == req.hint})
	}
	// Chromium applies form-action to the redirect that answers the form, so the client's origin has to be named.
	s.render(w, http.StatusOK, "chooser", page.Nonce, "'self' "+originOf(req.redirect), page)
}

// refusePage tells the person, since the client is not known well enough to be told.
func (s *Server) refusePage(w http.ResponseWriter, err error) {
	refused := asOAuth(err)
	page := refusalPage{pageHead{"Sign-in refused", randomToken()}, refused.code, refused.description}
	s.render(w, refused.status, "refusal", page.Nonce, "'none'", page)
}

// render writes a page that runs no script, loads nothing, and cannot be framed.
func (s *Server) render(w http.ResponseWriter, status int, name, nonce, formAction string, data any) {
	var page bytes.Buffer
	if err := s.chooser.ExecuteTemplate(&page, name, data); err != nil {
		writeError(w, fmt.Errorf("render page: %w", err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+nonce+"'; base-uri 'none'; frame-ancestors 'none'; form-action "+formAction)
	h.Set("X-Frame-Options", "DENY")
	// Not no-referrer: that makes the form's Origin null, and older browsers have nothing else to prove themselves by.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	w.WriteHeader(status)
	// A client that went away is nobody's to tell.
	_, _ = w.Write(page.Bytes())
}
