package cuda

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// images are the loaded modules and where to find each kernel in them.
type images struct {
	d       driver.Driver
	arch    int
	modules []driver.Module
	owner   map[string]found
	taken   map[string]driver.Function
}

type found struct {
	module driver.Module
	kernel kernels.Kernel
}

// loadImages loads every image. The context is current.
func loadImages(d driver.Driver, arch int) (*images, error) {
	manifest, err := kernels.Images()
	if err != nil {
		return nil, err
	}
	i := &images{d: d, arch: arch, owner: map[string]found{}, taken: map[string]driver.Function{}}
	for _, image := range manifest.Images {
		data, err := image.Data()
		if err != nil {
			return nil, errors.Join(err, i.close())
		}
		module, err := d.Load(data)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("kernels of %s: %w", image.Name, err), i.close())
		}
		i.modules = append(i.modules, module)
		for _, k := range image.Kernels {
			i.owner[k.Name] = found{module, k}
		}
	}
	return i, nil
}

func (i *images) close() error {
	var errs []error
	for _, m := range i.modules {
		errs = append(errs, i.d.Unload(m))
	}
	i.modules = nil
	return errors.Join(errs...)
}

// function finds a kernel that takes one argument of so many bytes and may use so
// much dynamic shared memory.
func (i *images) function(name string, argSize, shared int) (driver.Function, error) {
	key := fmt.Sprintf("%s/%d", name, shared)
	if f, ok := i.taken[key]; ok {
		return f, nil
	}
	at, ok := i.owner[name]
	if !ok {
		return 0, fmt.Errorf("cuda: no kernel %s in the images: run `go run ./kernels/build`", name)
	}
	if i.arch < at.kernel.MinArch {
		return 0, fmt.Errorf("cuda: kernel %s needs compute capability %d.%d, the device has %d.%d", name, at.kernel.MinArch/10, at.kernel.MinArch%10, i.arch/10, i.arch%10)
	}
	f, err := i.d.Function(at.module, name, argSize)
	if err == nil && shared > 48<<10 {
		err = i.d.SetShared(f, shared)
	}
	if err != nil {
		return 0, err
	}
	i.taken[key] = f
	return f, nil
}

// kernel is a kernel that takes an A.
type kernel[A any] struct {
	d        driver.Driver
	name     string
	function driver.Function
	shared   int // the most dynamic shared memory it was asked for with
}

// find returns a kernel for launches with up to so many bytes of dynamic shared
// memory; an error is noted in the recorder.
func find[A any](r *recorder, name string, shared int) kernel[A] {
	var args A
	f, err := r.b.images.function(name, int(unsafe.Sizeof(args)), shared)
	r.note(err)
	return kernel[A]{r.b.driver, name, f, shared}
}

// launch puts the kernel into the pass's stream. It may begin before the kernel
// ahead of it ends: every kernel waits by itself (ptx::grid_wait).
func (k kernel[A]) launch(p *pass, grid, block driver.Dim, shared int, args A) error {
	for i := range grid {
		grid[i], block[i] = max(grid[i], 1), max(block[i], 1)
	}
	return k.d.Launch(&driver.Launch{
		Function: k.function, Grid: grid, Block: block, Shared: shared,
		Stream: p.stream, Args: kernels.Bytes(&args), Overlap: p.overlap,
	})
}
