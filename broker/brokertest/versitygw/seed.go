package versitygw

import (
	"context"
	"crypto/sha1" //nolint:gosec // IAM's thumbprint is SHA-1 by definition, and public
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	// iamRegion is the one that IAM and STS sign for.
	iamRegion = "us-east-1"
	// maxAnswer bounds an answer that is read whole: IAM's are about 1 kB.
	maxAnswer = 1 << 20
)

// seed creates what c names.
func (s *Server) seed(ctx context.Context, c Config) error {
	thumbprint := sha1.Sum(c.Provider.CA.Raw) //nolint:gosec // see the import
	form := url.Values{"Url": {c.Provider.URL}, "ThumbprintList.member.1": {hex.EncodeToString(thumbprint[:])}}
	for i, id := range c.Provider.ClientIDs {
		form.Set("ClientIDList.member."+strconv.Itoa(i+1), id)
	}
	if _, err := s.iam(ctx, "CreateOpenIDConnectProvider", form); err != nil {
		return err
	}
	for _, role := range c.Roles {
		if err := s.createRole(ctx, role); err != nil {
			return fmt.Errorf("role %s: %w", role.Name, err)
		}
	}
	for _, bucket := range c.Buckets {
		if err := s.createBucket(ctx, bucket, c.Region); err != nil {
			return fmt.Errorf("bucket %s: %w", bucket, err)
		}
	}
	return nil
}

func (s *Server) createRole(ctx context.Context, role Role) error {
	form := url.Values{"RoleName": {role.Name}, "AssumeRolePolicyDocument": {string(role.TrustPolicy)}}
	if role.MaxSession > 0 {
		form.Set("MaxSessionDuration", seconds(role.MaxSession))
	}
	answer, err := s.iam(ctx, "CreateRole", form)
	if err != nil {
		return err
	}
	var created struct {
		ARN string `xml:"CreateRoleResult>Role>Arn"`
	}
	if err := xml.Unmarshal(answer, &created); err != nil {
		return fmt.Errorf("read the answer of CreateRole: %w", err)
	}
	s.Roles[role.Name] = created.ARN
	if len(role.Policy) == 0 {
		return nil
	}
	_, err = s.iam(ctx, "PutRolePolicy", url.Values{
		"RoleName": {role.Name}, "PolicyName": {"role"}, "PolicyDocument": {string(role.Policy)},
	})
	return err
}

func (s *Server) createBucket(ctx context.Context, bucket, region string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, s.S3+"/"+url.PathEscape(bucket), http.NoBody)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	_, err = s.send(req, "", "s3", region)
	return err
}

// iam calls an action of IAM as root.
func (s *Server) iam(ctx context.Context, action string, form url.Values) ([]byte, error) {
	form.Set("Action", action)
	form.Set("Version", "2010-05-08")
	body := form.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.STS+"/", strings.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := s.send(req, body, "iam", iamRegion)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	return answer, nil
}

// send signs a request as root and returns the body of a 200.
func (s *Server) send(req *http.Request, body, service, region string) ([]byte, error) {
	sum := sha256.Sum256([]byte(body))
	hash := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Content-Sha256", hash)
	if err := v4.NewSigner().SignHTTP(req.Context(), s.Root, req, hash, service, region, time.Now()); err != nil {
		return nil, fmt.Errorf("sign request: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("send request: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return answer, nil
}

// providerName is the issuer as IAM stores it.
func providerName(issuer string) string { return strings.TrimPrefix(issuer, "https://") }
