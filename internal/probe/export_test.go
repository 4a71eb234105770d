package probe

// Judge is the pure half of Uplink.
var Judge = judge
