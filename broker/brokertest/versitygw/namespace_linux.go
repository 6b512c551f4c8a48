package versitygw

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"
)

// insideEnv tells the second process of Isolate that it is the second.
const insideEnv = "CREDENTIAL_BROKER_NAMESPACE"

// Isolate runs the tests of a package, for a TestMain that says
// os.Exit(versitygw.Isolate(m)), in a user and network namespace in which Address
// is ours; what it returns is the exit code. It runs the test binary again, since
// a process with threads cannot move to another user namespace (unshare(2)); flags,
// output and exit code are passed through. Where the system refuses
// namespaces it says so and runs the tests outside, where Need skips or, in CI,
// fails.
func Isolate(m *testing.M) (code int) {
	if isolated() {
		return m.Run()
	}
	if os.Getenv(insideEnv) != "" {
		if err := errors.Join(os.Unsetenv(insideEnv), configure()); err != nil {
			complain(err)
		}
		return m.Run()
	}
	code, err := again()
	if err != nil {
		complain(err)
		return m.Run()
	}
	return code
}

func complain(err error) {
	_, _ = fmt.Fprintln(os.Stderr, "versitygw: no network namespace:", err) // nobody to tell that telling failed
}

// again runs this binary in new namespaces. The error says that it did not run.
func again() (int, error) {
	// Pdeathsig is about the thread; see spawn.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("find the test binary: %w", err)
	}
	cmd := exec.Command(self, os.Args[1:]...) //nolint:gosec,noctx // ourselves, for as long as the tests take
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = dieTogether()
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	// `go test` asks so for the stacks of a test that hangs. Other signals end us,
	// and with us the child.
	quits := make(chan os.Signal, 1)
	signal.Notify(quits, syscall.SIGQUIT)
	defer signal.Stop(quits)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("run the tests again: %w", err)
	}
	go func() {
		for s := range quits {
			_ = cmd.Process.Signal(s) // it may be gone already
		}
	}()
	err = cmd.Wait()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		complain(err)
	}
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		return code, nil
	}
	return 1, nil // it was killed
}

// dieTogether makes a child end when its starter does.
func dieTogether() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// configure brings the loopback interface up and gives it Address, by rtnetlink(7).
func configure() error {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer func() { _ = syscall.Close(fd) }()              // everything was acknowledged
	order, index := binary.NativeEndian, uint32(lo.Index) //nolint:gosec // the kernel's own number

	up := make([]byte, syscall.SizeofIfInfomsg) // family, pad, type, index, flags, change
	order.PutUint32(up[4:], index)
	order.PutUint32(up[8:], syscall.IFF_UP)
	order.PutUint32(up[12:], syscall.IFF_UP)
	if err := ask(fd, syscall.RTM_NEWLINK, 0, up); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}

	address := []byte{syscall.AF_INET, 32, 0, syscall.RT_SCOPE_UNIVERSE} // family, prefix length, flags, scope
	address = order.AppendUint32(address, index)
	for _, kind := range []uint16{syscall.IFA_LOCAL, syscall.IFA_ADDRESS} {
		address = order.AppendUint16(address, syscall.SizeofRtAttr+net.IPv4len)
		address = order.AppendUint16(address, kind)
		address = append(address, net.ParseIP(Address).To4()...)
	}
	if err := ask(fd, syscall.RTM_NEWADDR, syscall.NLM_F_CREATE|syscall.NLM_F_EXCL, address); err != nil {
		return fmt.Errorf("give lo its address: %w", err)
	}
	return nil
}

// ask sends one message and reads the acknowledgement.
func ask(fd int, kind, flags uint16, body []byte) error {
	order := binary.NativeEndian
	message := order.AppendUint32(nil, uint32(syscall.SizeofNlMsghdr+len(body))) //nolint:gosec // some ten bytes
	message = order.AppendUint16(message, kind)
	message = order.AppendUint16(message, flags|syscall.NLM_F_REQUEST|syscall.NLM_F_ACK)
	message = append(message, make([]byte, 8)...) // sequence and port: one question at a time
	message = append(message, body...)
	if err := syscall.Sendto(fd, message, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	answer := make([]byte, 4096) // an acknowledgement repeats the question
	n, _, err := syscall.Recvfrom(fd, answer, 0)
	if err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	messages, err := syscall.ParseNetlinkMessage(answer[:n])
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if len(messages) != 1 || messages[0].Header.Type != syscall.NLMSG_ERROR || len(messages[0].Data) < 4 {
		return errors.New("the kernel did not acknowledge")
	}
	if code := int32(order.Uint32(messages[0].Data)); code != 0 { //nolint:gosec // a negative errno
		return syscall.Errno(-code) //nolint:gosec // it is positive now
	}
	return nil
}
