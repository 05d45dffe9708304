package chat

// expr is an expression of a template. eval is called through evaluator.eval,
// which counts the step and names the line of an error.
type expr interface {
	position() int
	eval(ev *evaluator) (Value, error)
}

// stmt is a statement; it writes to out. exec is called through evaluator.exec.
type stmt interface {
	position() int
	exec(ev *evaluator, out *builder) error
}

// pos is the line a node stands on.
type pos int

func (p pos) position() int { return int(p) }

// Expressions.
type (
	literal struct {
		pos
		value Value
	}
	name struct {
		pos
		name string
	}
	attribute struct { // object.name
		pos
		object expr
		name   string
	}
	subscript struct { // object[index]
		pos
		object, index expr
	}
	slice struct { // object[start:stop:step], each may be nil
		pos
		object, start, stop, step expr
	}
	unary struct { // -x, +x
		pos
		op string
		x  expr
	}
	binary struct { // + - * / // % **
		pos
		op   string
		a, b expr
	}
	concat struct { // a ~ b ~ c
		pos
		parts []expr
	}
	comparison struct { // a < b <= c, a in b
		pos
		first expr
		rest  []operand
	}
	not struct {
		pos
		x expr
	}
	logic struct { // and, or
		pos
		and  bool
		a, b expr
	}
	conditional struct { // then if test else otherwise; otherwise may be nil
		pos
		test, then, otherwise expr
	}
	filtered struct { // target|filter(args)
		pos
		target expr
		name   string
		filter *builtin
		args   callArgs
	}
	tested struct { // target is test(args)
		pos
		target expr
		name   string
		test   *builtin
		args   callArgs
	}
	call struct {
		pos
		callee expr
		args   callArgs
	}
	listLiteral struct {
		pos
		items []expr
		tuple bool
	}
	mapLiteral struct {
		pos
		keys, values []expr
	}
)

type operand struct {
	op string
	x  expr
}

// callArgs are the arguments as written: f(a, b, key=c, *list, **map).
type callArgs struct {
	positional []expr
	named      []namedExpr
	list, dict expr
}

type namedExpr struct {
	name string
	x    expr
}

// Statements.
type (
	textStmt struct {
		pos
		text string
	}
	outputStmt struct {
		pos
		x expr
	}
	ifStmt struct {
		pos
		branches  []branch
		otherwise []stmt
	}
	forStmt struct {
		pos
		target    target
		list      expr
		filter    expr // may be nil
		body      []stmt
		otherwise []stmt
	}
	setStmt struct {
		pos
		target target
		value  expr
	}
	setBlockStmt struct {
		pos
		target  target
		filters expr // a chain that begins with captured, or nil
		body    []stmt
	}
	macroStmt struct {
		pos
		*macro
	}
	callStmt struct { // {% call(args) f() %}body{% endcall %}
		pos
		caller *macro
		call   *call
	}
	filterStmt struct { // {% filter upper %}body{% endfilter %}
		pos
		filters expr
		body    []stmt
	}
	withStmt struct {
		pos
		targets []target
		values  []expr
		body    []stmt
	}
	scopeStmt struct { // {% generation %}body{% endgeneration %}
		pos
		body []stmt
	}
	jumpStmt struct { // break, continue
		pos
		jump error
	}
)

type branch struct {
	test expr
	body []stmt
}

// target is what a value is assigned to: a name, namespace.attribute, or
// several of them.
type target struct {
	name, attribute string
	several         []target
}

// captured is the text of the block that a filter chain begins with.
type captured struct{ pos }

// macro is a definition; params without a default have a nil one.
type macro struct {
	name     string
	params   []string
	defaults []expr
	body     []stmt
	varargs  bool // the body names varargs
	kwargs   bool // the body names kwargs
	caller   bool // the body names caller
}
