package sample

import "slices"

// ranked are things with a strict order: before says that the receiver is the
// better one.
type ranked[T any] interface{ before(T) bool }

// best returns the n best of from, in order, in the memory of heap. It keeps a
// heap of n with the worst on top, so most of a long list costs one comparison
// each.
func best[T ranked[T]](heap, from []T, n int) []T {
	heap = heapOf(heap, from, n)
	slices.SortFunc(heap, func(a, b T) int {
		if a.before(b) {
			return -1
		}
		return 1
	})
	return heap
}

// heapOf is best without the order: the worst of the n comes first.
func heapOf[T ranked[T]](heap, from []T, n int) []T {
	n = min(n, len(from))
	heap = append(heap[:0], from[:n]...)
	for i := n/2 - 1; i >= 0; i-- {
		sink(heap, i)
	}
	if n == 0 {
		return heap
	}
	for _, v := range from[n:] {
		if v.before(heap[0]) {
			heap[0] = v
			sink(heap, 0)
		}
	}
	return heap
}

// sink restores the heap below i.
func sink[T ranked[T]](heap []T, i int) {
	for {
		worst := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(heap); child++ {
			if heap[worst].before(heap[child]) {
				worst = child
			}
		}
		if worst == i {
			return
		}
		heap[i], heap[worst] = heap[worst], heap[i]
		i = worst
	}
}
