package main

import (
	"context"
	"io"
)

func (s *story) stay(ctx context.Context, stdin io.Reader) { <-ctx.Done() }
