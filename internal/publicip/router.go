package publicip

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
)

// gateway returns the router to ask: the one configured, or the default gateway.
func (s Source) gateway() (netip.Addr, error) {
	if s.host != "" {
		return netip.ParseAddr(s.host)
	}
	routes, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find default gateway: %w", err)
	}
	return defaultGateway(string(routes))
}

// defaultGateway reads /proc/net/route (proc_net(5)): destination 0 and mask 0, flags RTF_UP and RTF_GATEWAY, least
// metric; addresses are in the byte order of the machine, hexadecimal.
func defaultGateway(routes string) (netip.Addr, error) {
	const up, via = 0x1, 0x2
	var best netip.Addr
	var bestMetric uint64
	for line := range strings.Lines(routes) {
		var iface string
		var destination, gateway, flags, refs, use, metric, mask uint64
		if _, err := fmt.Sscanf(line, "%s %x %x %x %d %d %d %x", &iface, &destination, &gateway, &flags, &refs, &use, &metric, &mask); err != nil {
			continue // the heading
		}
		if destination != 0 || mask != 0 || flags&(up|via) != up|via {
			continue
		}
		if best.IsValid() && metric >= bestMetric {
			continue
		}
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], uint32(gateway))
		best, bestMetric = netip.AddrFrom4(b), metric
	}
	if !best.IsValid() {
		return netip.Addr{}, errors.New("find default gateway: no default route over IPv4")
	}
	return best, nil
}

// dialUDP opens a socket that hears the router alone and is closed when ctx ends.
func dialUDP(ctx context.Context, address string) (net.Conn, func(), error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp4", address)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return conn, func() { stop(); conn.Close() }, nil
}

// askNATPMP asks for the public address as RFC 6886 §3.2 says; the request is repeated after 250 ms, then twice as
// long each time, for as long as ctx lasts.
func (s Source) askNATPMP(ctx context.Context) (netip.Addr, error) {
	router, err := s.gateway()
	if err != nil {
		return netip.Addr{}, err
	}
	conn, done, err := dialUDP(ctx, net.JoinHostPort(router.String(), s.port))
	if err != nil {
		return netip.Addr{}, err
	}
	defer done()

	reply := make([]byte, 64)
	for wait := 250 * time.Millisecond; ; wait *= 2 {
		if _, err := conn.Write([]byte{0, 0}); err != nil && ctx.Err() == nil {
			return netip.Addr{}, err
		}
		conn.SetReadDeadline(time.Now().Add(remaining(ctx, wait))) //nolint:errcheck // fails on a closed socket only; Read says so
		n, err := conn.Read(reply)
		switch {
		case err == nil:
			return parseNATPMP(reply[:n])
		case ctx.Err() != nil:
			return netip.Addr{}, errors.New("the router does not speak NAT-PMP (no answer)")
		case !isTimeout(err):
			return netip.Addr{}, err // commonly an ICMP port unreachable: "connection refused"
		}
	}
}

// parseNATPMP reads version, opcode (0 | 128), result code, seconds since the epoch, address.
func parseNATPMP(reply []byte) (netip.Addr, error) {
	if len(reply) < 4 || reply[1] != 128 {
		return netip.Addr{}, errors.New("not an answer in NAT-PMP")
	}
	if reply[0] != 0 {
		return netip.Addr{}, fmt.Errorf("the router speaks version %d, not NAT-PMP", reply[0])
	}
	if code := binary.BigEndian.Uint16(reply[2:]); code != 0 {
		return netip.Addr{}, fmt.Errorf("the router refused with NAT-PMP result code %d", code)
	}
	if len(reply) < 12 {
		return netip.Addr{}, errors.New("answer in NAT-PMP cut short")
	}
	return routerAddress(netip.AddrFrom4([4]byte(reply[8:12])))
}

// routerAddress refuses the 0.0.0.0 of a router that is not on line: that is no address, and no sign of a NAT either.
func routerAddress(a netip.Addr) (netip.Addr, error) {
	if a.IsUnspecified() {
		return netip.Addr{}, errors.New("the router has no outside address at present")
	}
	return a, nil
}

// askFritz asks a FRITZ!Box, whose control URL is fixed and needs neither search nor login.
func (s Source) askFritz(ctx context.Context) (netip.Addr, error) {
	control := &url.URL{Scheme: "http", Host: net.JoinHostPort(s.host, s.port), Path: "/igdupnp/control/WANIPConn1"}
	return s.externalAddress(ctx, control, "urn:schemas-upnp-org:service:WANIPConnection:1")
}

// askUPnP searches the gateway (UPnP Device Architecture 1.1 §1.3), reads its description and asks its
// WANIPConnection or WANPPPConnection. Other devices on the network are not listened to: a second router beside the
// gateway knows nothing of our way out.
func (s Source) askUPnP(ctx context.Context) (netip.Addr, error) {
	router, err := s.gateway()
	if err != nil {
		return netip.Addr{}, err
	}
	location, err := s.search(ctx, router)
	if err != nil {
		return netip.Addr{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location.String(), nil)
	if err != nil {
		return netip.Addr{}, err
	}
	description, err := fetch(httpClient("tcp4", s), req)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("read router's description: %w", err)
	}
	service, path, err := wanService(description)
	if err != nil {
		return netip.Addr{}, err
	}
	ref, err := url.Parse(path)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("router's control URL %q: not a URL", path)
	}
	control := location.ResolveReference(ref)
	if control.Hostname() != location.Hostname() {
		return netip.Addr{}, fmt.Errorf("router's control URL leads to another host, %s", control.Host)
	}
	return s.externalAddress(ctx, control, service)
}

// search asks the router alone, by unicast, where its description is.
func (s Source) search(ctx context.Context, router netip.Addr) (*url.URL, error) {
	address := net.JoinHostPort(router.String(), s.port)
	conn, done, err := dialUDP(ctx, address)
	if err != nil {
		return nil, err
	}
	defer done()

	request := "M-SEARCH * HTTP/1.1\r\nHOST: " + address + "\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n" +
		"ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
	reply := make([]byte, 4096)
	for {
		if _, err := conn.Write([]byte(request)); err != nil && ctx.Err() == nil {
			return nil, err
		}
		conn.SetReadDeadline(time.Now().Add(remaining(ctx, 700*time.Millisecond))) //nolint:errcheck // fails on a closed socket only; Read says so
		n, err := conn.Read(reply)
		switch {
		case ctx.Err() != nil:
			return nil, errors.New("the router does not speak UPnP (no answer)")
		case err != nil && isTimeout(err):
			continue
		case err != nil:
			return nil, err
		}
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(reply[:n])), nil)
		if err != nil {
			return nil, errors.New("the router's answer to a UPnP search is malformed")
		}
		resp.Body.Close()
		location, err := resp.Location()
		if err != nil || location.Scheme != "http" || location.Hostname() != router.String() {
			return nil, errors.New("the router's answer to a UPnP search names no description on the router")
		}
		return location, nil
	}
}

// wanService finds the connection service, at whatever depth of the description (UPnP InternetGatewayDevice:1 and :2).
func wanService(description []byte) (service, control string, err error) {
	decoder := xml.NewDecoder(bytes.NewReader(description))
	for {
		token, err := decoder.Token()
		if err != nil {
			return "", "", errors.New("the router's description names no WANIPConnection or WANPPPConnection")
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "service" {
			continue
		}
		var s struct {
			Type    string `xml:"serviceType"`
			Control string `xml:"controlURL"`
		}
		if err := decoder.DecodeElement(&s, &start); err != nil {
			return "", "", errors.New("the router's description is malformed")
		}
		for _, known := range []string{"WANIPConnection:1", "WANIPConnection:2", "WANPPPConnection:1"} {
			if s.Type == "urn:schemas-upnp-org:service:"+known && s.Control != "" {
				return s.Type, strings.TrimSpace(s.Control), nil
			}
		}
	}
}

// externalAddress calls GetExternalIPAddress (WANIPConnection:1 §2.4.18) over SOAP 1.1.
func (s Source) externalAddress(ctx context.Context, control *url.URL, service string) (netip.Addr, error) {
	envelope := `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"` +
		` s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>` +
		`<u:GetExternalIPAddress xmlns:u="` + service + `"></u:GetExternalIPAddress></s:Body></s:Envelope>`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, control.String(), strings.NewReader(envelope))
	if err != nil {
		return netip.Addr{}, err
	}
	req.Header.Set("Content-Type", `text/xml; charset="utf-8"`)
	req.Header["SOAPAction"] = []string{`"` + service + `#GetExternalIPAddress"`}
	body, err := fetch(httpClient("tcp4", s), req)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("ask router for its outside address: %w", err)
	}
	var reply struct {
		Address *string `xml:"Body>GetExternalIPAddressResponse>NewExternalIPAddress"`
	}
	if err := xml.Unmarshal(body, &reply); err != nil || reply.Address == nil {
		return netip.Addr{}, errors.New("the router's answer holds no NewExternalIPAddress")
	}
	if strings.TrimSpace(*reply.Address) == "" {
		return routerAddress(netip.IPv4Unspecified()) // as some routers say it
	}
	a, err := parseAddress(*reply.Address)
	if err != nil {
		return netip.Addr{}, err
	}
	return routerAddress(a)
}
