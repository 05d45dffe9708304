package chat

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

// Int is an integer of any size, as in Python and JSON.
type Int struct {
	small int64
	big   *big.Int // set only when the number does not fit in small
}

// Float is a float64, printed as Python prints it.
type Float float64

// maxDigits of an integer: Python refuses to read or print longer ones.
const maxDigits = 4300

// maxIntBits bounds results of arithmetic; 4300 digits are 14284 bits.
const maxIntBits = 14285

// NewInt makes an integer.
func NewInt(n int64) Int { return Int{small: n} }

func intFromBig(n *big.Int) Int {
	if n.IsInt64() {
		return Int{small: n.Int64()}
	}
	return Int{big: n}
}

// intFromFloat is f as an integer, if it is one.
func intFromFloat(f float64) (Int, bool) {
	if math.IsInf(f, 0) || f != math.Trunc(f) {
		return Int{}, false
	}
	if math.Abs(f) < 1<<62 {
		return NewInt(int64(f)), true
	}
	n, _ := new(big.Float).SetFloat64(f).Int(nil)
	return intFromBig(n), true
}

// parseInt reads decimal digits with an optional sign.
func parseInt(text string) (Int, bool) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return NewInt(n), true
	}
	if len(text) > maxDigits {
		return Int{}, false
	}
	n, ok := new(big.Int).SetString(text, 10)
	if !ok {
		return Int{}, false
	}
	return intFromBig(n), true
}

// String is the number in decimal digits.
func (i Int) String() string {
	if i.big != nil {
		return i.big.String()
	}
	return strconv.FormatInt(i.small, 10)
}

// Int64 is the number, if it fits.
func (i Int) Int64() (int64, bool) { return i.small, i.big == nil }

// index is the number as a position: what does not fit is as good as the
// largest or smallest int.
func (i Int) index() int {
	if i.big == nil {
		return int(i.small)
	}
	if i.big.Sign() < 0 {
		return math.MinInt
	}
	return math.MaxInt
}

func (i Int) sign() int {
	if i.big != nil {
		return i.big.Sign()
	}
	switch {
	case i.small < 0:
		return -1
	case i.small > 0:
		return 1
	}
	return 0
}

func (i Int) bigInt() *big.Int {
	if i.big != nil {
		return i.big
	}
	return big.NewInt(i.small)
}

func (i Int) float() float64 {
	if i.big == nil {
		return float64(i.small)
	}
	f, _ := new(big.Float).SetInt(i.big).Float64()
	return f
}

func (i Int) cmp(j Int) int {
	if i.big == nil && j.big == nil {
		switch {
		case i.small < j.small:
			return -1
		case i.small > j.small:
			return 1
		}
		return 0
	}
	return i.bigInt().Cmp(j.bigInt())
}

// toInt is 1 or 0.
func toInt(b Bool) Int {
	if b {
		return NewInt(1)
	}
	return NewInt(0)
}

// number is v as an Int or Float (a Bool counts as an Int).
func number(v Value) (i Int, f float64, isInt, ok bool) {
	switch v := v.(type) {
	case Bool:
		return toInt(v), 0, true, true
	case Int:
		return v, 0, true, true
	case Float:
		return Int{}, float64(v), false, true
	}
	return Int{}, 0, false, false
}

// compareNumbers orders a and b exactly. ordered is false with a NaN.
func compareNumbers(a, b Value) (c int, ordered, ok bool) {
	ai, af, aInt, ok1 := number(a)
	bi, bf, bInt, ok2 := number(b)
	if !ok1 || !ok2 {
		return 0, false, false
	}
	if aInt && bInt {
		return ai.cmp(bi), true, true
	}
	if math.IsNaN(af) || math.IsNaN(bf) {
		return 0, false, true
	}
	return bigFloat(ai, af, aInt).Cmp(bigFloat(bi, bf, bInt)), true, true
}

// bigFloat holds an Int or a float exactly.
func bigFloat(i Int, f float64, isInt bool) *big.Float {
	if isInt {
		return new(big.Float).SetInt(i.bigInt())
	}
	return new(big.Float).SetFloat64(f)
}

// arithmetic computes a op b for two numbers; ok is false if one is none.
func arithmetic(op string, a, b Value) (v Value, ok bool, err error) {
	ai, af, aInt, ok1 := number(a)
	bi, bf, bInt, ok2 := number(b)
	if !ok1 || !ok2 {
		return nil, false, nil
	}
	if aInt && bInt && op != "/" && !(op == "**" && bi.sign() < 0) {
		v, err = intArithmetic(op, ai, bi)
		return v, true, err
	}
	if aInt {
		af = ai.float()
	}
	if bInt {
		bf = bi.float()
	}
	if (aInt && math.IsInf(af, 0)) || (bInt && math.IsInf(bf, 0)) {
		return nil, true, fail("integer too large to convert to float")
	}
	v, err = floatArithmetic(op, af, bf)
	return v, true, err
}

func intArithmetic(op string, a, b Int) (Value, error) {
	if a.big == nil && b.big == nil {
		if v, ok := smallArithmetic(op, a.small, b.small); ok {
			return v, nil
		}
	}
	x, y, r := a.bigInt(), b.bigInt(), new(big.Int)
	switch op {
	case "+":
		r.Add(x, y)
	case "-":
		r.Sub(x, y)
	case "*":
		r.Mul(x, y)
	case "//", "%":
		if y.Sign() == 0 {
			return nil, fail("integer division or modulo by zero")
		}
		m := new(big.Int)
		r.QuoRem(x, y, m)
		if m.Sign() != 0 && m.Sign() != y.Sign() {
			r.Sub(r, big.NewInt(1))
			m.Add(m, y)
		}
		if op == "%" {
			r = m
		}
	case "**":
		if x.CmpAbs(big.NewInt(1)) > 0 && (!y.IsInt64() || y.Int64() > int64(maxIntBits/(x.BitLen()-1))) {
			return nil, fail("the power is too large: at most %d digits", maxDigits)
		}
		r.Exp(x, y, nil)
	}
	if r.BitLen() > maxIntBits {
		return nil, fail("the integer is too large: at most %d digits", maxDigits)
	}
	return intFromBig(r), nil
}

// smallArithmetic is the fast way; ok is false where it could overflow.
func smallArithmetic(op string, a, b int64) (v Int, ok bool) {
	const half = 1 << 31
	switch {
	case op == "+" || op == "-":
		if op == "-" {
			if b == math.MinInt64 {
				return Int{}, false
			}
			b = -b
		}
		r := a + b
		return NewInt(r), (r > a) == (b > 0)
	case op == "*":
		return NewInt(a * b), -half < a && a < half && -half < b && b < half
	case (op == "//" || op == "%") && b != 0 && a != math.MinInt64:
		q, m := a/b, a%b
		if m != 0 && (m < 0) != (b < 0) {
			q, m = q-1, m+b
		}
		if op == "%" {
			q = m
		}
		return NewInt(q), true
	}
	return Int{}, false
}

func floatArithmetic(op string, a, b float64) (Value, error) {
	switch op {
	case "+":
		return Float(a + b), nil
	case "-":
		return Float(a - b), nil
	case "*":
		return Float(a * b), nil
	case "**":
		if a < 0 && b != math.Trunc(b) || a == 0 && b < 0 {
			return nil, fail("%s cannot be raised to the power %s", formatFloat(a), formatFloat(b))
		}
		return Float(math.Pow(a, b)), nil
	}
	if b == 0 {
		return nil, fail("division by zero")
	}
	if op == "/" {
		return Float(a / b), nil
	}
	m := math.Mod(a, b)
	q := (a - m) / b
	if m != 0 && (m < 0) != (b < 0) {
		m, q = m+b, q-1
	}
	if op == "%" {
		return Float(m), nil
	}
	return Float(math.RoundToEven(q)), nil
}

// formatFloat is Python's repr: shortest digits, an exponent below 1e-4 and
// from 1e16 on, else with ".0" if whole.
func formatFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	e := strconv.FormatFloat(f, 'e', -1, 64)
	exponent, err := strconv.Atoi(e[strings.IndexByte(e, 'e')+1:])
	if f != 0 && (err != nil || exponent < -4 || exponent >= 16) {
		return e
	}
	text := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// jsonFloat is how Python's json module writes a float.
func jsonFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return formatFloat(f)
}
