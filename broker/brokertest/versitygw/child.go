package versitygw

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"time"
)

const (
	// health is the path that answers once a server listens.
	health = "/healthz"
	// poll is the pause between two looks at it: a start takes 50 to 100 ms.
	poll = 10 * time.Millisecond
)

// child is a process of the server's.
type child struct {
	process *os.Process
	gone    chan struct{} // closed when the process was waited for
	status  error         // how it ended; read after gone
}

// spawn starts a command. The goroutine that starts it keeps its thread until the
// process is gone: Linux sends the death signal when the *thread* that started
// the child ends (prctl(2), PR_SET_PDEATHSIG), not when the process does.
func spawn(cmd *exec.Cmd) (*child, error) {
	c, started := &child{gone: make(chan struct{})}, make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		c.process = cmd.Process
		started <- err
		if err != nil {
			return
		}
		c.status = cmd.Wait()
		close(c.gone)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start process: %w", err)
	}
	return c, nil
}

// stop kills the process and waits for its end.
func (c *child) stop() error {
	if err := c.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill process: %w", err)
	}
	<-c.gone
	return nil
}

// launch runs the binary and waits until url answers. The keys go through the
// environment, which other users cannot read as they can arguments; nothing else
// of ours does, since the server takes every flag from there as well.
func (s *Server) launch(ctx context.Context, c Config, url string, args []string) error {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), c.Binary, args...) //nolint:gosec // the test names the binary
	cmd.Env = []string{"ROOT_ACCESS_KEY_ID=" + s.Root.AccessKeyID, "ROOT_SECRET_ACCESS_KEY=" + s.Root.SecretAccessKey}
	cmd.Stdout, cmd.Stderr = c.Output, c.Output
	cmd.SysProcAttr = dieTogether()
	process, err := spawn(cmd)
	if err != nil {
		return err
	}
	s.children = append(s.children, process)
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		if ready(ctx, url) {
			return nil
		}
		select {
		case <-ticker.C:
		case <-process.gone:
			return fmt.Errorf("ended before it was ready: %w", process.status)
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", url, ctx.Err())
		}
	}
}

// ready asks once.
func ready(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+health, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil
}
