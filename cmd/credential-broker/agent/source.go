package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"credential-broker/broker"
)

// A Source gives the access tokens that the broker is shown. An error of its is a
// *Problem.
type Source interface {
	// Token returns a token; with fresh, because the last one was refused, none from
	// memory if that may help.
	Token(ctx context.Context, fresh bool) (broker.Secret, error)
}

const (
	// maxTokenBytes is the most that the broker looks at.
	maxTokenBytes = 8192
	// maxSecretBytes bounds the file of a client's secret; Auth0's have 64 bytes.
	maxSecretBytes = 4096
	// tokenMargin is how long a token must still be good for to be used: for the way to
	// the broker, and for clocks that differ a little.
	tokenMargin = time.Minute
	// tooYoung is the age below which a token that was refused is not replaced: a new
	// one would be refused for the same reason, and Auth0 counts tokens of machines.
	tooYoung = 10 * time.Minute
)

// TokenFile is a file with an access token that somebody else renews, such as the
// kubelet a projected service-account token. It is read each time.
type TokenFile string

var _ Source = TokenFile("")

// Token implements Source.
func (f TokenFile) Token(context.Context, bool) (broker.Secret, error) {
	data, err := readSmall(string(f), maxTokenBytes, false)
	if err != nil {
		return broker.Secret{}, unavailable(codeTokenUnavailable, err, "The file with the access token cannot be read.")
	}
	token := strings.TrimSpace(string(data))
	if strings.Count(token, ".") != 2 || strings.ContainsAny(token, " \t\r\n") {
		return broker.Secret{}, unavailable(codeTokenUnavailable, fmt.Errorf("%s holds no compact JWT", f), "The file with the access token holds none.")
	}
	return broker.NewSecret(token), nil
}

// Client is an application that gets its tokens by client credentials (RFC 6749
// §4.4), with Auth0's parameter audience.
type Client struct {
	TokenURL     string
	ID           string
	Secret       broker.Secret // or
	SecretFile   string        // read each time, so that the secret can be rotated
	Audience     string
	Organization string // Auth0's parameter organization; empty: none

	http *http.Client

	mu      sync.Mutex // guards what follows
	token   broker.Secret
	got     time.Time
	expires time.Time
}

var _ Source = (*Client)(nil)

// Token implements Source. A token is renewed in the middle of its life: the broker
// gives no session that is much longer than what is left of the token, so sessions
// have at least half of a token's life. While it cannot be renewed it is used to its
// end.
func (c *Client) Token(ctx context.Context, fresh bool) (broker.Secret, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	good := !c.token.IsZero() && now.Before(c.expires.Add(-tokenMargin))
	renew := now.After(c.got.Add(c.expires.Sub(c.got) / 2))
	if fresh {
		renew = now.Sub(c.got) >= tooYoung
	}
	if good && !renew {
		return c.token, nil
	}
	token, expires, problem := c.fetch(ctx)
	switch {
	case problem == nil:
		c.token, c.got, c.expires = token, now, expires
		return token, nil
	case problem.Final:
		c.token = broker.Secret{}
	case good && !fresh:
		return c.token, nil
	}
	return broker.Secret{}, problem
}

// fetch asks the token endpoint.
func (c *Client) fetch(ctx context.Context) (broker.Secret, time.Time, *Problem) {
	var none broker.Secret
	secret := c.Secret
	if c.SecretFile != "" {
		data, err := readSmall(c.SecretFile, maxSecretBytes, true)
		if err != nil {
			return none, time.Time{}, unavailable(codeTokenUnavailable, err, "The file with the client's secret cannot be used.")
		}
		secret = broker.NewSecret(strings.TrimRight(string(data), "\r\n"))
	}
	// In the body, as Auth0's applications have it by default; to try both ways would
	// make two failures of one.
	asked := clientcredentials.Config{
		ClientID: c.ID, ClientSecret: secret.Reveal(), TokenURL: c.TokenURL, AuthStyle: oauth2.AuthStyleInParams,
		EndpointParams: url.Values{"audience": {c.Audience}},
	}
	if c.Organization != "" {
		asked.EndpointParams.Set("organization", c.Organization)
	}
	answer, err := asked.Token(context.WithValue(ctx, oauth2.HTTPClient, c.http))
	if err != nil {
		return none, time.Time{}, c.problem(err, secret)
	}
	if strings.Count(answer.AccessToken, ".") != 2 || !strings.EqualFold(answer.Type(), "Bearer") {
		return none, time.Time{}, &Problem{
			Status: http.StatusForbidden, Code: codeTokenRefused, Final: true,
			Message: "The token endpoint gave no JWT to be used as a bearer token: the audience has to be the identifier of an API.",
		}
	}
	expires := answer.Expiry
	if expires.IsZero() { // RFC 6749 §5.1: it need not say. Then it is good for this once.
		expires = time.Now()
	}
	return broker.NewSecret(answer.AccessToken), expires, nil
}

// problem says why there is no token. The library's own text holds the whole answer
// and is not passed on.
func (c *Client) problem(err error, secret broker.Secret) *Problem {
	host := c.TokenURL
	if u, parseErr := url.Parse(c.TokenURL); parseErr == nil {
		host = u.Host
	}
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		return unavailable(codeTokenUnavailable, nil, "The token endpoint at %s cannot be asked: %s", host, brief(err))
	}
	status := refused.Response.StatusCode
	if status < 400 || status >= 500 || status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || refused.ErrorCode == "" {
		p := unavailable(codeTokenUnavailable, nil, "The token endpoint at %s answers %s.", host, readable(refused.Response.Status, maxCode))
		p.RetryAfter = retryAfter(refused.Response.Header)
		return p
	}
	text := readable(without(secret, refused.ErrorCode), maxCode)
	if refused.ErrorDescription != "" {
		text += ": " + readable(without(secret, refused.ErrorDescription), maxText)
	}
	return &Problem{
		Status: http.StatusForbidden, Code: codeTokenRefused, Final: true,
		Message: fmt.Sprintf("The token endpoint at %s refuses the client %s: %s", host, readable(c.ID, maxCode), text),
	}
}

// without takes out of what an endpoint said the secret that it was shown, which none
// ought to repeat, and what looks like a token. It goes before a text is cut.
func without(secret broker.Secret, text string) string {
	if s := secret.Reveal(); s != "" {
		text = strings.ReplaceAll(text, s, "[redacted]")
	}
	return broker.Redact(text)
}

// readSmall reads a file of at most so many bytes. One that is private must be the
// user's own, or the system's, and must not be readable for others; for the group it
// may be, since Kubernetes gives mounted secrets to a group (fsGroup). See othersMay
// for Windows.
func readSmall(path string, limit int64, private bool) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode(); !mode.IsRegular() || private && othersMay(mode, runtime.GOOS) {
		return nil, fmt.Errorf("%s has mode %s: it must be a file, and one with a secret in it must not be readable for others, nor writable for its group (chmod 600)", path, mode)
	}
	if private && foreign(info) {
		return nil, fmt.Errorf("%s belongs to another user, who could say what is in it", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return data, nil
}

// othersMay tells whether a file's mode opens it to everybody, or lets its group write. On Windows a mode
// says nothing of that: Go makes it up from the read-only attribute, and who may read
// is in the access control list, which is not looked at. There the file has to be in a
// folder of the user's own.
func othersMay(mode fs.FileMode, system string) bool {
	return system != "windows" && mode.Perm()&0o027 != 0
}
