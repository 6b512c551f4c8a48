package tofu_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// module is the text of a module's files, without comments.
func module(t *testing.T, name string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(deploy, "terraform", name, "*.tf"))
	if err != nil || len(files) == 0 {
		t.Fatal("no module "+name, err)
	}
	var all strings.Builder
	for _, file := range files {
		all.WriteString(read(t, file))
	}
	return regexp.MustCompile(`(?m)(^|\s)#.*$`).ReplaceAllString(all.String(), "")
}

// section is a part of deploy/README.md, from its heading to the next.
func section(t *testing.T, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(read(t, filepath.Join(deploy, "README.md")), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("deploy/README.md has no %s", heading)
	}
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}

// What deploy/README.md says of ECS is said with the module's own names.
func TestThePageNamesWhatTheModuleHas(t *testing.T) {
	text, ecs := section(t, "4c. ECS"), module(t, "ecs")
	names := regexp.MustCompile("`([a-z]+(?:_[a-z]+)+|configuration|stopTimeout)`").FindAllStringSubmatch(text, -1)
	if len(names) < 8 {
		t.Errorf("only %d names in\n%s", len(names), text)
	}
	for _, name := range names {
		if !regexp.MustCompile(`(?m)^\s*(?:(?:variable|output) "` + name[1] + `" \{|` + name[1] + `\s+= )`).MatchString(ecs) {
			t.Errorf("the module has no %s", name[1])
		}
	}
}

// Each sentence of deploy/README.md about a module, and what makes it true.
func TestThePageSaysWhatTheModulesDo(t *testing.T) {
	has := func(pattern string) func(string) bool { return regexp.MustCompile(pattern).MatchString }
	for _, tc := range []struct {
		section, says, module string
		holds                 func(string) bool
	}{
		{"3. AWS", "Block Public Access", "aws", has(`block_public_acls +=\s+true\s+block_public_policy +=\s+true\s+ignore_public_acls +=\s+true\s+restrict_public_buckets +=\s+true`)},
		{"3. AWS", "ownership enforced", "aws", has(`object_ownership = "BucketOwnerEnforced"`)},
		{"3. AWS", "versions", "aws", has(`status = "Enabled"`)},
		{"3. AWS", "encryption", "aws", has(`aws_s3_bucket_server_side_encryption_configuration`)},
		{"3. AWS", "`ETag` exposed", "aws", has(`expose_headers +=.*"ETag"`)},
		{"3. AWS", "aborts uploads", "aws", has(`abort_incomplete_multipart_upload`)},
		{"3. AWS", "No thumbprint is needed", "aws", func(text string) bool { return !strings.Contains(text, "thumbprint") }},
		{"4c. ECS", "Secrets Manager", "ecs", has(`resource "aws_secretsmanager_secret" "key"`)},
		{"4c. ECS", "whose value you put there", "ecs", func(text string) bool { return !strings.Contains(text, "aws_secretsmanager_secret_version") }},
		{"4c. ECS", "only the broker's user reads", "ecs", has(`"umask 077"(?s:.*)"chown -R 65532:65532 \."`)},
		{"4c. ECS", "`trusted_proxies` are the networks of the load balancer's subnets (`public_subnet_ids`)", "ecs",
			has(`trusted_proxies = sort\(distinct\(values\(data\.aws_subnet\.public\)\[\*\]\.cidr_block\)\)(?s:.*)subnets +=\s+var\.public_subnet_ids`)},
		{"4c. ECS", "health check is `/readyz`", "ecs", has(`path +=\s+"/readyz"`)},
		{"4c. ECS", "`credential-broker healthcheck`", "ecs", has(`healthCheck += \{ command = \["CMD", "/credential-broker", "healthcheck"\]`)},
		{"4c. ECS", "`stopTimeout` is 30", "ecs", has(`stopTimeout +=\s+30\b`)},
		{"4c. ECS", "`deregistration_delay` 20", "ecs", has(`deregistration_delay +=\s+20\b`)},
		{"4c. ECS", "The task has no role.", "ecs", func(text string) bool { return !strings.Contains(text, "task_role_arn") }},
		{"4c. ECS", "The role in `execution_role_arn` is ECS's own", "ecs", has(`execution_role_arn += aws_iam_role\.execution\.arn`)},
	} {
		if !strings.Contains(strings.Join(strings.Fields(section(t, tc.section)), " "), tc.says) {
			t.Errorf("%s does not say %q any more", tc.section, tc.says)
		}
		if !tc.holds(module(t, tc.module)) {
			t.Errorf("%s: %q is not so in the module %s", tc.section, tc.says, tc.module)
		}
	}
}
