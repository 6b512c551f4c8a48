package policy_test

import (
	"errors"
	"testing"

	"credential-broker/policy"
)

func key(t testing.TB, s string) policy.KMSKey {
	t.Helper()
	k, err := policy.ParseKMSKey(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const keyARN = "arn:aws:kms:ap-northeast-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"

func TestAKeyIsNamedByItsOwnARN(t *testing.T) {
	if k := key(t, keyARN); k.String() != keyARN || k.Region() != "ap-northeast-1" || k.IsZero() {
		t.Errorf("%s in %s", k, k.Region())
	}
	for _, s := range []string{"arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/mrk-0123", "arn:aws-cn:kms:cn-north-1:123456789012:key/x"} {
		if k := key(t, s); k.String() != s {
			t.Errorf("%q became %q", s, k)
		}
	}
	if k := key(t, ""); !k.IsZero() {
		t.Error("no key is a key")
	}
	for _, s := range []string{
		"x", "alias/a", "arn:aws:kms:ap-northeast-1:123456789012:alias/a", "arn:aws:kms:ap-northeast-1:123456789012:key/*",
		"arn:aws:kms:*:123456789012:key/a", "arn:aws:kms::123456789012:key/a", "arn:aws:kms:ap-northeast-1:12345678901:key/a",
		"arn:aws:kms:ap-northeast-1:123456789012:key/", "arn:aws-iso:kms:us-iso-east-1:123456789012:key/a", keyARN + "\n",
		"arn:aws:s3:ap-northeast-1:123456789012:key/a", keyARN + "/x", keyARN + "${x}",
	} {
		if k, err := policy.ParseKMSKey(s); !errors.Is(err, policy.ErrInvalid) || !k.IsZero() {
			t.Errorf("%q is taken: %v", s, err)
		}
	}
}
