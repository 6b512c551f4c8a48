package locals3_test

import (
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// names are what a listing shows, below the tenant's prefix.
func names(objects []types.Object, groups []types.CommonPrefix) []string {
	var all []string
	for _, o := range objects {
		all = append(all, strings.TrimPrefix(aws.ToString(o.Key), acme))
	}
	for _, g := range groups {
		all = append(all, strings.TrimPrefix(aws.ToString(g.Prefix), acme))
	}
	return all
}

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}
