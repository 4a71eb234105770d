package watchdog

import "context"

// Run is Main for tests, which end it by ctx.
func Run(ctx context.Context, env Env) int { return run(ctx, env) }
