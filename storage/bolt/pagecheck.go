package bolt

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
)

// bbolt trusts its pages. A damaged page can make it read beyond the end of the file, where the system ends the process, or loop, or
// allocate without end. So a file that may be damaged is checked first, by plain reads, and bbolt opens it only if its pages are sound.
// This is what is read of the pages' format (version 2), in the machine's byte order:
//
//	page            id(8) flags(2) count(2) overflow(4), then count elements of 16 bytes, then their keys and values
//	branch element  pos(4) ksize(4) child(8)
//	leaf element    flags(4) pos(4) ksize(4) vsize(4)
//	bucket          root(8) sequence(8), the value of a leaf element whose flags are 1; with root 0 a page follows in the value
//	free list       a page whose elements are the ids of free pages, of 8 bytes; count 0xffff: the first is the count
//
// pos counts from the element. A page continues in as many further pages as overflow says.
const (
	pageHeaderSize  = 16
	elementSize     = 16
	bucketValueSize = 16
	pageBranch      = 0x01
	pageLeaf        = 0x02
	pageMeta        = 0x04
	pageFreelist    = 0x10
	manyFree        = 0xffff
	noFreelist      = math.MaxUint64
	bucketElement   = 0x01

	metaPageSize = 16 + 8  // u32
	metaRoot     = 16 + 16 // u64
	metaFreelist = 16 + 32 // u64
)

// pageChecker checks the pages of a database file.
type pageChecker struct {
	f         *os.File
	highWater uint64
	reached   numberSet
	errs      []error
}

// checkPages returns what is wrong with how a file's pages refer to each other, at most a hundred lines. The error is a read error,
// or ErrNotDatabase or ErrCorrupt for a file without a valid meta page.
func checkPages(path string) ([]error, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	metas, err := readMetas(f)
	if err != nil {
		return nil, err
	}
	if err := checkSize(f, metas); err != nil {
		return nil, err
	}
	meta := newestMetaPage(metas)
	if size := binary.NativeEndian.Uint32(meta[metaPageSize:]); size != pageSize {
		return nil, fmt.Errorf("%w: its pages have %d bytes", ErrNotDatabase, size)
	}
	highWater := binary.NativeEndian.Uint64(meta[metaHighWater:])
	c := &pageChecker{f: f, highWater: highWater, reached: make(numberSet)}
	c.reached.add(0)
	c.reached.add(1)
	if err := c.tree(binary.NativeEndian.Uint64(meta[metaRoot:])); err != nil {
		return nil, err
	}
	if id := binary.NativeEndian.Uint64(meta[metaFreelist:]); id != noFreelist {
		if err := c.freelist(id); err != nil {
			return nil, err
		}
	}
	return c.errs, nil
}

// checkMetaHeaders returns what is wrong with the headers of the two meta pages. No checksum covers them. A start does not need them
// and each commit rewrites one, but bbolt's own check panics on them.
func checkMetaHeaders(path string) ([]error, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	metas, err := readMetas(f)
	if err != nil {
		return nil, err
	}
	c := new(pageChecker)
	for id := range uint64(2) {
		header := metas[id*pageSize:]
		if got := binary.NativeEndian.Uint64(header); got != id {
			c.wrong(id, "says that it is page %d", got)
		}
		if flags := binary.NativeEndian.Uint16(header[8:]); flags != pageMeta {
			c.wrong(id, "is not a meta page (flags %#x)", flags)
		}
	}
	return c.errs, nil
}

func (c *pageChecker) wrong(page uint64, format string, args ...any) {
	if len(c.errs) < maxViolations {
		c.errs = append(c.errs, fmt.Errorf("page %d: "+format, append([]any{page}, args...)...))
	}
}

// page is a page's header and elements.
type page struct {
	id, offset, size uint64 // offset and size in the file
	flags            uint16
	count            uint16
	elements         []byte
}

// read reads a page up to the end of its elements. ok is false if it is malformed.
func (c *pageChecker) read(id uint64) (p page, ok bool, err error) {
	if id < 2 || id >= c.highWater {
		c.wrong(id, "is led to, and the pages in use end at %d", c.highWater)
		return p, false, nil
	}
	header := make([]byte, pageHeaderSize)
	if _, err := c.f.ReadAt(header, int64(id*pageSize)); err != nil {
		return p, false, err
	}
	overflow := uint64(binary.NativeEndian.Uint32(header[12:]))
	p = page{id: id, offset: id * pageSize, size: (1 + overflow) * pageSize,
		flags: binary.NativeEndian.Uint16(header[8:]), count: binary.NativeEndian.Uint16(header[10:])}
	if got := binary.NativeEndian.Uint64(header); got != id {
		c.wrong(id, "says that it is page %d", got)
		return p, false, nil
	}
	if id+overflow >= c.highWater {
		c.wrong(id, "goes on for %d pages, and those in use end at %d", overflow, c.highWater)
		return p, false, nil
	}
	for i := id; i <= id+overflow; i++ {
		if c.reached.add(i) {
			c.wrong(i, "is led to twice")
			return p, false, nil
		}
	}
	return p, true, nil
}

// readElements reads a page's elements, n bytes each.
func (c *pageChecker) readElements(p *page, count, n uint64) (ok bool, err error) {
	if count > (p.size-pageHeaderSize)/n {
		c.wrong(p.id, "has %d elements, for which there is no room", count)
		return false, nil
	}
	p.elements = make([]byte, count*n)
	_, err = c.f.ReadAt(p.elements, int64(p.offset+pageHeaderSize))
	return err == nil, err
}

// tree checks a page and the pages below it.
func (c *pageChecker) tree(id uint64) error {
	p, ok, err := c.read(id)
	if err != nil || !ok {
		return err
	}
	if p.flags != pageBranch && p.flags != pageLeaf {
		c.wrong(id, "is neither a branch nor a leaf (flags %#x)", p.flags)
		return nil
	}
	if ok, err := c.readElements(&p, uint64(p.count), elementSize); err != nil || !ok {
		return err
	}
	if p.flags == pageBranch {
		return c.branch(&p)
	}
	return c.leaf(&p, func(offset, size uint64) ([]byte, error) {
		value := make([]byte, size)
		_, err := c.f.ReadAt(value, int64(p.offset+offset))
		return value, err
	})
}

func (c *pageChecker) branch(p *page) error {
	if p.count == 0 {
		c.wrong(p.id, "is a branch that leads nowhere")
	}
	for i := range uint64(p.count) {
		e := p.elements[i*elementSize:]
		pos, ksize := uint64(binary.NativeEndian.Uint32(e)), uint64(binary.NativeEndian.Uint32(e[4:]))
		if !c.fits(p, i, pos, ksize) {
			return nil
		}
		if err := c.tree(binary.NativeEndian.Uint64(e[8:])); err != nil {
			return err
		}
	}
	return nil
}

// fits reports whether the data of an element lies after the elements and within the page.
func (c *pageChecker) fits(p *page, i, pos, size uint64) bool {
	at := pageHeaderSize + i*elementSize + pos
	ok := at >= pageHeaderSize+uint64(p.count)*elementSize && at+size <= p.size
	if !ok {
		c.wrong(p.id, "element %d is not within the page", i)
	}
	return ok
}

// leaf checks the elements of a leaf page. value reads one of its values.
func (c *pageChecker) leaf(p *page, value func(offset, size uint64) ([]byte, error)) error {
	for i := range uint64(p.count) {
		e := p.elements[i*elementSize:]
		flags, pos := binary.NativeEndian.Uint32(e), uint64(binary.NativeEndian.Uint32(e[4:]))
		ksize, vsize := uint64(binary.NativeEndian.Uint32(e[8:])), uint64(binary.NativeEndian.Uint32(e[12:]))
		if !c.fits(p, i, pos, ksize+vsize) {
			return nil
		}
		switch flags {
		case 0:
			continue
		case bucketElement:
		default:
			c.wrong(p.id, "element %d has unknown flags %#x", i, flags)
			return nil
		}
		if vsize < bucketValueSize || vsize > pageSize {
			c.wrong(p.id, "element %d is a bucket of %d bytes", i, vsize)
			return nil
		}
		bucket, err := value(pageHeaderSize+i*elementSize+pos+ksize, vsize)
		if err != nil {
			return err
		}
		if root := binary.NativeEndian.Uint64(bucket); root != 0 {
			err = c.tree(root)
		} else {
			err = c.inline(p.id, bucket[bucketValueSize:])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inline checks a bucket that is small enough to lie in a value.
func (c *pageChecker) inline(id uint64, b []byte) error {
	if len(b) < pageHeaderSize {
		c.wrong(id, "has a bucket without a page")
		return nil
	}
	p := page{id: id, size: uint64(len(b)), flags: binary.NativeEndian.Uint16(b[8:]), count: binary.NativeEndian.Uint16(b[10:])}
	end := pageHeaderSize + int(p.count)*elementSize
	if p.flags != pageLeaf || end > len(b) {
		c.wrong(id, "has a bucket whose page is not a leaf, or has %d elements in %d bytes", p.count, len(b))
		return nil
	}
	p.elements = b[pageHeaderSize:end]
	return c.leaf(&p, func(offset, size uint64) ([]byte, error) { return b[offset : offset+size], nil })
}

// freelist checks the list of free pages.
func (c *pageChecker) freelist(id uint64) error {
	p, ok, err := c.read(id)
	if err != nil || !ok {
		return err
	}
	if p.flags != pageFreelist {
		c.wrong(id, "is not the list of free pages (flags %#x)", p.flags)
		return nil
	}
	count, skip := uint64(p.count), uint64(0)
	if p.count == manyFree {
		if ok, err := c.readElements(&p, 1, 8); err != nil || !ok {
			return err
		}
		count, skip = binary.NativeEndian.Uint64(p.elements), 1
		if count > p.size {
			count = p.size // no page has room for that
		}
	}
	if ok, err := c.readElements(&p, count+skip, 8); err != nil || !ok {
		return err
	}
	for list := p.elements[8*skip:]; len(list) > 0; list = list[8:] {
		free := binary.NativeEndian.Uint64(list)
		switch {
		case free < 2 || free >= c.highWater:
			c.wrong(free, "is listed as free, and the pages in use end at %d", c.highWater)
		case c.reached.add(free):
			c.wrong(free, "is listed as free, and is in use or listed twice")
		}
	}
	return nil
}
