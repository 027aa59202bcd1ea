package lossyfs

import "maps"

const (
	pageSize   = 4096
	sectorSize = 512 // what a disk writes wholly or not at all
)

// image is the content of a file. What no page covers is zeros. Pages are never changed once they are in it, so that images may
// share them.
type image struct {
	size  int64
	pages map[int64]*[pageSize]byte
}

func newImage() image { return image{pages: make(map[int64]*[pageSize]byte)} }

func (m *image) clone() image { return image{m.size, maps.Clone(m.pages)} }

func (m *image) write(data []byte, off int64) {
	m.size = max(m.size, off+int64(len(data)))
	for len(data) > 0 {
		page := new([pageSize]byte)
		if old := m.pages[off/pageSize]; old != nil {
			*page = *old
		}
		n := copy(page[off%pageSize:], data)
		m.pages[off/pageSize] = page
		data, off = data[n:], off+int64(n)
	}
}

func (m *image) truncate(size int64) {
	if size < m.size {
		end := (size + pageSize - 1) / pageSize
		maps.DeleteFunc(m.pages, func(n int64, _ *[pageSize]byte) bool { return n >= end })
		if last := m.pages[size/pageSize]; last != nil {
			page := new([pageSize]byte)
			copy(page[:size%pageSize], last[:])
			m.pages[size/pageSize] = page
		}
	}
	m.size = size
}

// read fills data from off on, and returns how many bytes there were.
func (m *image) read(data []byte, off int64) int {
	data = data[:max(0, min(int64(len(data)), m.size-off))]
	for rest := data; len(rest) > 0; {
		n := min(len(rest), int(pageSize-off%pageSize))
		if page := m.pages[off/pageSize]; page != nil {
			copy(rest[:n], page[off%pageSize:])
		} else {
			clear(rest[:n])
		}
		rest, off = rest[n:], off+int64(n)
	}
	return len(data)
}

// grows is how many pages a write would add.
func (m *image) grows(off int64, length int) (pages int64) {
	for n := off / pageSize; n*pageSize < off+int64(length); n++ {
		if m.pages[n] == nil {
			pages++
		}
	}
	return pages
}
