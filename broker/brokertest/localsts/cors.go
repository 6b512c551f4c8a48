package localsts

import "net/http"

// cors lets any page call and read the answer, as STS does: it knows no cookies,
// so that a page's origin adds nothing to what its caller knows already. It
// reports whether the request was a preflight, and is answered.
// https://github.com/aws/aws-sdk-js/blob/master/SERVICES.md ("Allows CORS")
func cors(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("Origin") == "" {
		return false
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "x-amzn-RequestId, x-amzn-ErrorType, Date")
	if r.Method != http.MethodOptions {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
		h.Set("Access-Control-Allow-Headers", asked)
	}
	h.Set("Access-Control-Max-Age", "600") // the real one's is longer; a demo's addresses change
	w.WriteHeader(http.StatusOK)
	return true
}
