package chat

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDecodeJSON(t *testing.T) {
	for text, want := range map[string]string{
		`{"b":1,"a":2,"b":3}`:                     `{"b": 3, "a": 2}`,
		` [ 1 , -0 , 1.0, 1E5 , 1e400, -1e400 ] `: `[1, 0, 1.0, 100000.0, Infinity, -Infinity]`,
		`123456789012345678901234567890`:          `123456789012345678901234567890`,
		`[1e16, 1e15, 0.0001, 0.00001, 1e-7]`:     `[1e+16, 1000000000000000.0, 0.0001, 1e-05, 1e-07]`,
		`"\u00e9\ud83d\ude00\n\/\u0000"`:          `"é😀\n/\u0000"`,
		`[true, false, null, "", {}, []]`:         `[true, false, null, "", {}, []]`,
		"\"\u2028<>&\x7f\"":                       "\"\u2028<>&\x7f\"",
	} {
		v, err := DecodeJSON([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := EncodeJSON(v); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", text, got, err, want)
		}
	}
}

func TestDecodeJSONErrors(t *testing.T) {
	for text, want := range map[string]string{
		``:          "ends inside",
		`{`:         "ends inside",
		`{"a"`:      "ends inside",
		`"a`:        "ends inside",
		`[1,]`:      "byte 3: unexpected ']'",
		`{"a":1,}`:  "byte 7: unexpected '}'",
		`{a:1}`:     "where a key should begin",
		`[1 2]`:     "in an array",
		`01`:        "after the value",
		`1.`:        "ends inside",
		`.5`:        "where a value",
		`+1`:        "where a value",
		`NaN`:       "where a value",
		`nul`:       "ends inside",
		`nulL`:      "where a value",
		`"\x"`:      "after a backslash",
		`"\ud83d"`:  "lone surrogate",
		`"\ude00"`:  "lone surrogate",
		`"\ud83dx"`: "lone surrogate",
		"\"a\nb\"":  "control character",
		"\"\xff\"":  "UTF-8",
		`1 x`:       "after the value",
		`'a'`:       "where a value",
		`/* */ 1`:   "where a value",
		strings.Repeat("[", 300) + strings.Repeat("]", 300): "levels",
		strings.Repeat("1", 5000):                           "digits",
	} {
		if v, err := DecodeJSON([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, %v, want an error with %q", text, v, err, want)
		}
	}
}

func TestMapKeepsOrder(t *testing.T) {
	m := NewMap()
	for i := range 40 {
		m.Set(strings.Repeat("k", i+1), NewInt(int64(i)))
	}
	m.Set("kk", NewString("again"))
	i := 0
	for key, v := range m.All() {
		if len(key) != i+1 {
			t.Errorf("key %d is %q", i, key)
		}
		if got, ok := m.Get(key); !ok || !reflect.DeepEqual(got, v) {
			t.Errorf("Get(%q) = %v", key, got)
		}
		i++
	}
	if v, _ := m.Get("kk"); m.Len() != 40 || v.(String).Text() != "again" {
		t.Errorf("%d keys, kk = %v", m.Len(), v)
	}
}

// FuzzDecodeJSON compares with encoding/json: what one takes the other takes,
// but for the documented differences, and both mean the same.
func FuzzDecodeJSON(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,-2.5e3,"x\u00e9\n",true,null],"b":{}}`, `[[[]]]`, `"\ud83d\ude00"`, `1e400`, `-0`, `{"a":1,"a":2}`, "\xff", `"\ud800"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := DecodeJSON(data)
		if err != nil {
			known := []string{"UTF-8", "surrogate", "levels", "digits"}
			for _, k := range known {
				if strings.Contains(err.Error(), k) {
					return
				}
			}
			if json.Valid(data) {
				t.Fatalf("valid JSON was refused: %v", err)
			}
			return
		}
		if !json.Valid(data) || !utf8.Valid(data) {
			t.Fatalf("invalid JSON was taken")
		}
		text, err := EncodeJSON(v)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, "Infinity") {
			return
		}
		again, err := DecodeJSON([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if !reflect.DeepEqual(v, again) {
			t.Fatalf("%s: decoded again it is another value", text)
		}
		var a, b any
		if json.Unmarshal(data, &a) == nil && json.Unmarshal([]byte(text), &b) == nil && !reflect.DeepEqual(a, b) {
			t.Fatalf("encoding/json reads %v in the input and %v in the output", a, b)
		}
	})
}
