package cpu

import "math"

func sigmoid(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }
func exp(x float32) float32     { return float32(math.Exp(float64(x))) }

// softplus is log(1 + e^x); above 20 the difference to x is below fp32.
func softplus(x float32) float32 {
	if x > 20 {
		return x
	}
	return float32(math.Log1p(math.Exp(float64(x))))
}
