package daemon

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// The functions below tell systemd, or whoever set NOTIFY_SOCKET in the environment given by getenv, how the daemon
// fares. Without that variable they do nothing. They are a few lines of our own because the libraries at hand look at
// the environment of the process themselves.

// Ready says that the daemon is up: what waits for it may start.
func Ready(getenv func(string) string) error { return notify(getenv, "READY=1") }

// Status sets the line that "systemctl status" shows.
func Status(getenv func(string) string, text string) error {
	// A newline would begin another assignment.
	return notify(getenv, "STATUS="+strings.Join(strings.Fields(text), " "))
}

// Stopping says that the daemon has begun to end.
func Stopping(getenv func(string) string) error { return notify(getenv, "STOPPING=1") }

// Watchdog says that the daemon is alive. It is for the loop that does the work, not for a timer beside it, which would
// go on when the loop hangs.
func Watchdog(getenv func(string) string) error { return notify(getenv, "WATCHDOG=1") }

// WatchdogInterval is how often Watchdog is to be called: half of what the service manager allows (WATCHDOG_USEC), as
// sd_watchdog_enabled(3) recommends; 0 if it does not watch this process.
func WatchdogInterval(getenv func(string) string) time.Duration {
	if pid := getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0 // meant for our parent
	}
	usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 || usec > int64(time.Duration(1<<63-1)/time.Microsecond) {
		return 0
	}
	return time.Duration(usec) * time.Microsecond / 2
}

func notify(getenv func(string) string, state string) error {
	name := getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	// A leading @ stands for the abstract namespace, here as in package net.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	defer conn.Close()
	// The socket's buffer may be full; the daemon does not wait for whoever should empty it.
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	return nil
}
