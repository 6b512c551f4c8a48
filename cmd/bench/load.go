package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// load is requests to be sent, in turn, each as the bytes that go over the wire.
type load struct {
	address  string
	requests [][]byte
	conns    int
	time     time.Duration
	each     bool // every request once, instead of for a time
	pick     func() int
	pace     time.Duration // between two requests of one connection; 0: as fast as answers come
	from     int           // the first request
	retry    time.Duration // how long a caller that is told to come again does so
}

// result is what came of it.
type result struct {
	requests int
	took     time.Duration
	statuses map[int]int // :: status → answers; of wrk only whether they are good
	latency  latencies
}

// answers says how many there were of each status.
func (r result) answers() string {
	said := []string{fmt.Sprintf("%d of 200", r.statuses[http.StatusOK])}
	for _, s := range slices.Sorted(maps.Keys(r.statuses)) {
		switch s {
		case http.StatusOK:
		case cutOff:
			said = append(said, fmt.Sprintf("%d cut off", r.statuses[s]))
		default:
			said = append(said, fmt.Sprintf("%d of %d", r.statuses[s], s))
		}
	}
	return strings.Join(said, ", ")
}

// latencies are sorted when they are asked.
type latencies struct {
	each             []time.Duration
	p50, p99, p999   time.Duration // of wrk
	haveQuantilesNow bool
}

func (l *latencies) quantile(q float64) time.Duration {
	if l.haveQuantilesNow {
		switch q {
		case 0.5:
			return l.p50
		case 0.99:
			return l.p99
		default:
			return l.p999
		}
	}
	if len(l.each) == 0 {
		return 0
	}
	slices.Sort(l.each)
	return l.each[min(len(l.each)-1, int(q*float64(len(l.each))))]
}

// request writes a request for credentials.
func request(token string, headers ...string) []byte {
	var b bytes.Buffer
	b.WriteString("GET /v1/credentials HTTP/1.1\r\nHost: broker.acme.example\r\nUser-Agent: aws-sdk-go-v2/1.48.0\r\nAccept: */*\r\n")
	if token != "" {
		b.WriteString("Authorization: Bearer " + token + "\r\n")
	}
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

func requests(tokens []string, headers ...string) [][]byte {
	made := make([][]byte, len(tokens))
	for i, t := range tokens {
		made[i] = request(t, headers...)
	}
	return made
}

// run sends it by the own generator: a connection is a goroutine that writes prepared
// bytes and reads no more of an answer than its status and its length.
func (l load) run(ctx context.Context) (result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results, errs := make([]result, l.conns), make([]error, l.conns)
	begin := time.Now()
	end := begin.Add(l.time)
	var all sync.WaitGroup
	var next sync.Mutex // guards at
	at := l.from
	take := func() (int, bool) {
		next.Lock()
		defer next.Unlock()
		if l.each && at == len(l.requests) || !l.each && !time.Now().Before(end) {
			return 0, false
		}
		if l.pick != nil {
			return l.pick(), true
		}
		at++
		return (at - 1) % len(l.requests), true
	}
	for i := range l.conns {
		all.Go(func() {
			if results[i], errs[i] = l.connection(ctx, take); errs[i] != nil {
				cancel()
			}
		})
	}
	all.Wait()
	sum := result{took: time.Since(begin), statuses: map[int]int{}}
	for _, r := range results {
		sum.requests += r.requests
		sum.latency.each = append(sum.latency.each, r.latency.each...)
		for s, n := range r.statuses {
			sum.statuses[s] += n
		}
	}
	for _, err := range errs {
		if err != nil { // the others follow from the first
			return sum, err
		}
	}
	return sum, nil
}

// cutOff is the status of a request whose connection was closed without an answer, as
// the server does with what takes longer than its WriteTimeout: where a machine has no
// time for what is asked of it, that is a measurement as others are.
const cutOff = -1

func (l load) connection(ctx context.Context, take func() (int, bool)) (result, error) {
	r := result{statuses: map[int]int{}}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", l.address)
	if err != nil {
		return r, err
	}
	defer func() { _ = c.Close() }()
	in := bufio.NewReaderSize(c, 16<<10)
	due := time.Now()
	for ctx.Err() == nil {
		i, ok := take()
		if !ok {
			break
		}
		if l.pace > 0 {
			due = due.Add(l.pace)
			time.Sleep(time.Until(due))
		}
		begin := time.Now()
		status, err := ask(c, in, l.requests[i])
		for err == nil && (status == 503 || status == 429) && time.Since(begin) < l.retry {
			time.Sleep(time.Second)
			status, err = ask(c, in, l.requests[i])
		}
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			if again, refused := d.DialContext(ctx, "tcp", l.address); refused == nil { // else there is no server any more
				_ = c.Close()
				c, status, err = again, cutOff, nil
				in.Reset(c)
			}
		}
		if err != nil {
			return r, err
		}
		r.latency.each = append(r.latency.each, time.Since(begin))
		r.statuses[status]++
		r.requests++
	}
	return r, nil
}

// ask sends one request and reads its answer.
func ask(c net.Conn, in *bufio.Reader, req []byte) (status int, err error) {
	if _, err := c.Write(req); err != nil {
		return 0, err
	}
	length := 0
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if first {
			if len(line) < 12 {
				return 0, fmt.Errorf("status line %q", line)
			}
			if status, err = strconv.Atoi(string(line[9:12])); err != nil {
				return 0, err
			}
			continue
		}
		if len(line) == 0 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, err
			}
		}
	}
	_, err = in.Discard(length)
	return status, err
}

// wrkScript hands wrk the prepared requests, in turn, and prints what it measured.
const wrkScript = `
local all = {}
for r in io.open(%q, "rb"):read("*a"):gmatch("([^%%z]+)%%z") do all[#all + 1] = r end
local i = %d
function request() i = i + 1; return all[(i - 1) %% #all + 1] end
function done(s, l)
  local bad = s.errors.connect + s.errors.read + s.errors.write + s.errors.status + s.errors.timeout
  io.write(string.format('\n@{"requests":%%d,"micro":%%d,"bad":%%d,"p50":%%d,"p99":%%d,"p999":%%d}\n', s.requests, s.duration, bad,
    l:percentile(50), l:percentile(99), l:percentile(99.9)))
end
`

// wrk sends it by wrk, on the second processor.
func (l load) wrk(ctx context.Context, folder string) (result, error) {
	data, script := filepath.Join(folder, "requests"), filepath.Join(folder, "wrk.lua")
	all := append(bytes.Join(l.requests, []byte{0}), 0)
	if err := os.WriteFile(data, all, 0o600); err != nil {
		return result{}, err
	}
	if err := os.WriteFile(script, fmt.Appendf(nil, wrkScript, data, l.from), 0o600); err != nil {
		return result{}, err
	}
	args := append(pinned(1), "wrk", "-t1", "-c"+strconv.Itoa(l.conns), "-d"+l.time.String(), "-s", script, "http://"+l.address+"/v1/credentials")
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).Output() //nolint:gosec // our own words
	if err != nil {
		return result{}, fmt.Errorf("wrk: %w", err)
	}
	_, line, ok := bytes.Cut(out, []byte("\n@"))
	if !ok {
		return result{}, errors.New("wrk: it measured nothing")
	}
	var told struct{ Requests, Micro, Bad, P50, P99, P999 int }
	if err := json.NewDecoder(bytes.NewReader(line)).Decode(&told); err != nil && !errors.Is(err, io.EOF) {
		return result{}, err
	}
	micro := func(n int) time.Duration { return time.Duration(n) * time.Microsecond }
	return result{
		requests: told.Requests, took: micro(told.Micro), statuses: map[int]int{200: told.Requests - told.Bad, 0: told.Bad},
		latency: latencies{p50: micro(told.P50), p99: micro(told.P99), p999: micro(told.P999), haveQuantilesNow: true},
	}, nil
}

// hasWrk reports whether wrk can be used: it takes whole seconds.
func (b *bench) hasWrk() bool {
	_, err := exec.LookPath("wrk")
	return err == nil && !b.NoWrk && b.Time%time.Second == 0
}
