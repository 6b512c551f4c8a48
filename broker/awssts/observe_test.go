package awssts_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker/awssts"
)

// Every code that judge knows, as the source has it, is of the set that is counted.
func TestEveryCodeIsOfTheSet(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	known := 0
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Name.Name != "judge" {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			clause, ok := n.(*ast.CaseClause)
			if !ok {
				return true
			}
			for _, e := range clause.List {
				literal, ok := e.(*ast.BasicLit)
				if !ok {
					continue
				}
				code, err := strconv.Unquote(literal.Value)
				if err != nil {
					t.Fatal(err)
				}
				known++
				if !slices.Contains(awssts.Codes(), awssts.Code(code)) {
					t.Errorf("%s is not of the set", code)
				}
			}
			return true
		})
	}
	if own := 9; known+own != len(awssts.Codes()) || known < 10 {
		t.Errorf("judge knows %d codes, and the set has %d beside the %d that are not STS's", known, len(awssts.Codes())-own, own)
	}
}

func TestEveryAlertIsOfTheSet(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "observe.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	alerts := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if of, ok := spec.Type.(*ast.Ident); ok && of.Name == "Alert" {
			alerts++
		}
		return true
	})
	if alerts != len(awssts.Alerts()) || alerts == 0 {
		t.Errorf("%d alerts are declared, and the set has %d", alerts, len(awssts.Alerts()))
	}
}

func TestTheLoadIsWhatThereIs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{answer: good}
		c, _ := setup(t, f, regions("eu-west-1", "eu-west-2"))
		state := func(first, second string) {
			t.Helper()
			want := []awssts.RegionState{{Region: "eu-west-1", State: first}, {Region: "eu-west-2", State: second}}
			got := c.Load()
			if !slices.Equal(got.Regions, want) {
				t.Errorf("%v, want %v", got.Regions, want)
			}
			for _, r := range got.Regions {
				if !slices.Contains(awssts.States(), r.State) {
					t.Errorf("%s is not of the set", r.State)
				}
			}
		}
		state("closed", "closed")
		block := make(chan struct{})
		f.answer = func(n int, form url.Values) (*http.Response, error) {
			<-block
			return good(n, form)
		}
		done := make(chan error, 3)
		for range 3 { // of which two have a place
			go func() {
				_, err := issue(t, c)
				done <- err
			}()
		}
		synctest.Wait()
		if got := c.Load(); got.Calls != 2 || got.Places != 2 || got.Waiting != 1 {
			t.Errorf("%+v", got)
		}
		close(block)
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if got := c.Load(); got.Calls != 0 || got.Waiting != 0 {
			t.Errorf("%+v", got)
		}
		f.answer = refusal(403, "RegionDisabledException", "")
		_, _ = issue(t, c)
		state("disabled", "disabled")
		c, _ = setup(t, f, nil)
		open(t, f, c)
		if got := c.Load().Regions; len(got) != 1 || got[0].State != "open" {
			t.Errorf("after five failures: %v", got)
		}
		<-time.After(6 * time.Second)
		if got := c.Load().Regions; got[0].State != "half-open" {
			t.Errorf("after its time: %v", got)
		}
	})
}
