package cuda

import "github.com/roundhouse-ai/roundhouse/engine/ops"

// unwritten stands in for the phases that have no file yet.
type unwritten struct{ ops.Set }
