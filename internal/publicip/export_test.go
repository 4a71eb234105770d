package publicip

// The pure parts, for tables and properties.
var (
	Agree          = agree
	AddressIn      = addressIn
	DefaultGateway = defaultGateway
	StableIPv6     = stableIPv6
	WANService     = wanService
	ParseNATPMP    = parseNATPMP
)

// RouterOperator is the operator of all router sources.
const RouterOperator = routerOperator
