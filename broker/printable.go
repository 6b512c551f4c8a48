package broker

import (
	"fmt"
	"strings"
	"unicode"
)

// Printable keeps what others wrote, as a claim of a token or the name of a caller's
// program, from being commands of a terminal or lines of its own: what is not
// printed is written as JSON writes it.
func Printable(text string) string {
	var out strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			out.WriteRune(r)
		} else {
			fmt.Fprintf(&out, "\\u%04x", r)
		}
	}
	return out.String()
}
