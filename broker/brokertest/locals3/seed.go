package locals3

import "net/http"

// Seed puts an object in, in nobody's name: what is there before anybody comes.
func (s *Server) Seed(bucket, key, contentType string, data []byte) error {
	if err := checkKey(key); err != nil {
		return err
	}
	r := &request{bucket: bucket, key: key, header: http.Header{"Content-Type": {contentType}}}
	release, err := s.store.reserve(int64(len(data)))
	if err != nil {
		return err
	}
	defer release()
	o := r.describedBy()
	o.ETag = etag(data)
	return s.store.put(r, o, data)
}
