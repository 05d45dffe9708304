package workbench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxLine bounds one line of JSON in bytes.
const maxLine = 64 << 20

// lineError is what a line that cannot be answered is answered with.
type lineError struct {
	Error struct {
		Kind    string `json:"kind"` // "input", or what kind of error a template made
		Message string `json:"message"`
	} `json:"error"`
}

func newLineError(kind, message string) lineError {
	var e lineError
	e.Error.Kind, e.Error.Message = kind, message
	return e
}

// eachLine answers JSON lines one for one. A line that answer refuses becomes
// an error line; only the streams and ctx can stop the work. Output is flushed
// whenever no further input is waiting, so that two programs can talk.
func eachLine(ctx context.Context, in io.Reader, out io.Writer, answer func(line []byte) (any, error)) error {
	reader, writer := bufio.NewReaderSize(in, 64<<10), bufio.NewWriterSize(out, 64<<10)
	encoder := json.NewEncoder(writer)
	encoder.SetEscapeHTML(false)
	var buffer []byte
	for {
		line, tooLong, err := readLine(reader, buffer)
		if errors.Is(err, io.EOF) {
			return writer.Flush()
		}
		if err != nil {
			return errors.Join(fmt.Errorf("read input: %w", err), writer.Flush())
		}
		buffer = line
		var result any
		if tooLong {
			result = newLineError("input", fmt.Sprintf("the line is longer than %d MiB", maxLine>>20))
		} else if result, err = answer(line); err != nil {
			result = newLineError("input", err.Error())
		}
		if err := encoder.Encode(result); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
		if reader.Buffered() == 0 {
			if err := writer.Flush(); err != nil {
				return fmt.Errorf("write output: %w", err)
			}
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(err, writer.Flush())
		}
	}
}

// readLine reads up to a line break or the end, into buffer where it fits. The
// rest of a line that is too long is skipped.
func readLine(r *bufio.Reader, buffer []byte) (line []byte, tooLong bool, err error) {
	line = buffer[:0]
	for read := 0; ; {
		part, err := r.ReadSlice('\n')
		read += len(part)
		if len(line)+len(part) > maxLine {
			tooLong = true
		} else {
			line = append(line, part...)
		}
		switch {
		case err == nil || errors.Is(err, io.EOF) && read > 0:
			return bytes.TrimRight(line, "\r\n"), tooLong, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, false, err
		}
	}
}
