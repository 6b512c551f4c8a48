package whois

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"credential-broker/broker"
)

// maxLine bounds a line. A record has under 4 kB, and a collector's wrapping makes
// of it at most some more.
const maxLine = 1 << 20

// Counts are how many lines were read, and how.
type Counts struct {
	Records    int `json:"records"`
	Others     int `json:"other_lines"`      // JSON, and no audit record: of another log
	Unreadable int `json:"unreadable_lines"` // torn, or not JSON: a record may have been in one
	Later      int `json:"later_versions"`   // of a version of the record that this program does not know
	Gaps       int `json:"gaps"`             // records that tell of decisions that were refused without one
	Broken     int `json:"broken_files"`     // could not be read to their end
}

// Add adds the counts of another file.
func (c *Counts) Add(more Counts) {
	c.Records += more.Records
	c.Others += more.Others
	c.Unreadable += more.Unreadable
	c.Later += more.Later
	c.Gaps += more.Gaps
	c.Broken += more.Broken
}

// File reads the records of a file, or of standard input where the name is "-", and
// hands each to found. What gzip packed is unpacked, whatever its name.
func File(name string, found func(broker.Record)) (Counts, error) {
	var r io.Reader = os.Stdin
	if name != "-" {
		f, err := os.Open(name) //nolint:gosec // the operator names the file
		if err != nil {
			return Counts{}, err
		}
		defer func() { _ = f.Close() }() // it was only read
		r = f
	}
	counts, err := Read(r, found)
	if err != nil {
		err = fmt.Errorf("read %s: %w", name, err)
	}
	return counts, err
}

// Read reads the records of a stream.
func Read(r io.Reader, found func(broker.Record)) (Counts, error) {
	var counts Counts
	in := bufio.NewReaderSize(r, 64<<10)
	if magic, _ := in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		packed, err := gzip.NewReader(in)
		if err != nil {
			return counts, err
		}
		in = bufio.NewReaderSize(packed, 64<<10)
	}
	for {
		line, tooLong, err := readLine(in)
		if tooLong {
			counts.Unreadable++
		} else if line = bytes.TrimSpace(line); len(line) > 0 {
			counts.add(line, found)
		}
		if errors.Is(err, io.EOF) {
			return counts, nil
		}
		if err != nil { // as of a packed file that was cut off
			return counts, err
		}
	}
}

// readLine reads a line, the last one without its end too. Of one that is too long
// it keeps nothing.
func readLine(in *bufio.Reader) (line []byte, tooLong bool, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if tooLong = tooLong || len(line)+len(part) > maxLine; tooLong {
			line = nil
		} else {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, tooLong, err
		}
	}
}

func (c *Counts) add(line []byte, found func(broker.Record)) {
	line = unwrap(line)
	var head struct {
		V        *int    `json:"v"`
		Decision *string `json:"decision"`
	}
	switch err := json.Unmarshal(line, &head); {
	case err != nil:
		c.Unreadable++
		return
	case head.V == nil || head.Decision == nil:
		c.Others++
		return
	case *head.V != broker.RecordVersion:
		c.Later++
		return
	}
	var r broker.Record
	if err := json.Unmarshal(line, &r); err != nil {
		c.Unreadable++
		return
	}
	c.Records++
	if r.Action == broker.ActionAudit {
		c.Gaps++
	}
	found(r)
}

// unwrap takes a record out of what collectors of standard output put around it:
// Docker a JSON object with the text in it, Kubernetes' runtimes a time, a stream
// and a letter in front of it.
func unwrap(line []byte) []byte {
	var docker struct {
		Log *string `json:"log"`
	}
	if json.Unmarshal(line, &docker) == nil && docker.Log != nil {
		line = []byte(*docker.Log)
	}
	if i := bytes.IndexByte(line, '{'); i > 0 && (bytes.Contains(line[:i], []byte(" stdout ")) || bytes.Contains(line[:i], []byte(" stderr "))) {
		line = line[i:]
	}
	return bytes.TrimSpace(line)
}
