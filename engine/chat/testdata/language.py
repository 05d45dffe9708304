"""Writes language.jsonl: small templates and what transformers makes of them.

    pip install transformers==5.23.0 jinja2==3.1.6 && python language.py > language.jsonl
"""
import json

from transformers.utils.chat_template_utils import _compile_jinja_template

VARS = {
    "s": "Hello, World", "u": "größe 中文 😀 ÀÉ", "sp": "  \n x y \t", "e": "", "n": None, "t": True, "f": False,
    "i": 7, "neg": -7, "z": 0, "x": 1.5, "big": 123456789012345678901234567890, "tiny": 1e-7, "huge": 1e22,
    "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "le": [], "d": {"b": 1, "a": [1, "x", None], "items": "own"}, "de": {},
    "nested": {"k": {"m": [{"v": 1}, {"v": 2}]}}, "rows": [{"n": "x", "v": 2, "g": "p"}, {"n": "Y", "v": 1, "g": "q"}, {"n": "z", "v": 3, "g": "p"}],
    "mixed": [1, "a", None, True, 2.5, [1], {"k": "v"}], "html": "<a href='x'>\"&</a>", "lines": "one\ntwo\n\nthree\n", "crlf": "a\r\nb\rc",
    "q1": "it's", "q2": 'say "hi"', "q3": "it's \"both\"", "ctl": "a\x00b\x1fc\x7f\u2028\u00a0\u200b", "csv": "a,b,,c", "num": "42", "fl": "3.75",
}

TEMPLATES = r"""
{{ s }}|{{ u }}|{{ n }}|{{ t }}|{{ i }}|{{ x }}|{{ big }}|{{ tiny }}|{{ huge }}|{{ nothing }}
{{ l }}|{{ ls }}|{{ d }}|{{ mixed }}|{{ le }}|{{ de }}|{{ (1,) }}|{{ () }}|{{ (1, 'a') }}
{{ [q1, q2, q3, ctl] }}
{{ ctl }}
{{ [u, '\\', '\n'] }}
{{ s[0] }}{{ s[-1] }}{{ u[1] }}{{ u[-2] }}{{ u[2:5] }}{{ u[::-1] }}{{ s[::2] }}{{ s[5:1:-1] }}{{ s[-3:] }}{{ s[:-3] }}{{ s[100] }}
{{ l[0] }}{{ l[-1] }}{{ l[1:] }}{{ l[::-1] }}{{ l[:1] }}{{ l[5:] }}{{ l[-2:] }}{{ l[::2] }}{{ l[99] is defined }}
{{ l[1:2:0] }}
{{ (1,2,3)[1:] }}{{ d['b'] }}{{ d.b }}{{ d['items'] }}{{ d['zz'] }}{{ d.zz is defined }}{{ d.a[2] }}{{ d.a.1 }}
{{ nested.k.m[1].v }}{{ nested['k']['m'][0]['v'] }}{{ nested.k.zz }}{{ rows[0].n ~ rows.1.n }}
{{ nothing.foo }}
{{ d.zz.foo }}
{{ n.foo }}
{{ n.foo.bar }}
{{ nothing + 'a' }}
{{ 'a' + nothing }}
{{ nothing ~ 'a' ~ n ~ 1 ~ 1.0 ~ true }}
{{ 'a' + 1 }}
{{ 1 + 'a' }}
{{ 1 + 2 * 3 - 4 / 2 }}|{{ 7 // 2 }}|{{ -7 // 2 }}|{{ 7 % 3 }}|{{ -7 % 3 }}|{{ 7 % -3 }}|{{ 2 ** 10 }}|{{ 2 ** -1 }}|{{ 2 ** 0.5 }}|{{ -2 ** 2 }}|{{ 2 ** 3 ** 2 }}
{{ 7.5 // 2 }}|{{ -7.5 // 2 }}|{{ 7.5 % 2 }}|{{ -7.5 % 2 }}|{{ 1 / 3 }}|{{ 10 / 2 }}|{{ 1e3 }}|{{ 1e16 }}|{{ 1.0e15 }}|{{ 123456.789e-10 }}|{{ 0.1 + 0.2 }}
{{ big + 1 }}|{{ big * big }}|{{ big // 7 }}|{{ big % 7 }}|{{ -big }}|{{ -big // 7 }}|{{ -big % 7 }}|{{ big / 3 }}|{{ 9223372036854775807 + 1 }}|{{ 4294967296 * 4294967296 }}|{{ -9223372036854775808 - 1 }}|{{ -9223372036854775808 // -1 }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 1.0 % 0 }}
{{ true + true }}|{{ -true }}|{{ +3 }}|{{ +true }}|{{ true * 3 }}
{{ 'ab' * 3 }}|{{ 3 * 'ab' }}|{{ [1] * 2 }}|{{ [1, 2] + [3] }}|{{ (1,) + (2,) }}|{{ 'ab' * -1 }}
{{ [1] + (2,) }}
{{ {} + {} }}
{{ -'a' }}
{{ 1_000 }}|{{ 0x1F }}|{{ 0b101 }}|{{ 0o17 }}|{{ 1.5e+3 }}|{{ 1E5 }}|{{ 00 }}
{{ 1 < 2 < 3 }}|{{ 1 < 2 > 3 }}|{{ 1 == 1.0 }}|{{ 1 == true }}|{{ 'a' < 'b' }}|{{ [1, 2] < [1, 3] }}|{{ 'a' == 1 }}|{{ none == none }}|{{ big > 1.5 }}|{{ big == big + 0.0 }}
{{ 1 < 'a' }}
{{ nothing < 1 }}
{{ nothing == nothing }}|{{ nothing == none }}|{{ nothing != 1 }}|{{ d == {'a': [1, 'x', None], 'b': 1, 'items': 'own'} }}|{{ l == [3, 1, 2] }}|{{ l == (3, 1, 2) }}
{{ 'a' in 'abc' }}|{{ 1 in l }}|{{ 'b' in d }}|{{ 9 not in l }}|{{ 'x' in nothing }}|{{ nothing in [1] }}|{{ none in [none] }}|{{ '' in '' }}
{{ 1 in 'abc' }}
{{ 1 in 5 }}
{{ not t }}|{{ not e }}|{{ t and i }}|{{ e or s }}|{{ n or 0 or 'z' }}|{{ not t or f }}|{{ t and not f }}|{{ not not le }}
{{ 'a' if t else 'b' }}|{{ 'a' if f }}|{{ 'a' if f else 'b' if f else 'c' }}|{{ ('a' if t) ~ 'b' }}
{% if t %}1{% elif f %}2{% else %}3{% endif %}{% if f %}1{% elif t %}2{% else %}3{% endif %}{% if f %}1{% elif f %}2{% else %}3{% endif %}
{% for a in l %}{{ a }}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}
{% for a in l %}{{ loop.previtem }},{{ loop.nextitem }},{{ loop.previtem is defined }};{% endfor %}
{% for a in le %}x{% else %}empty{% endfor %}{% for a in l %}x{% else %}empty{% endfor %}{% for a in nothing %}x{% else %}undef{% endfor %}
{% for a in n %}x{% endfor %}
{% for a in 5 %}x{% endfor %}
{% for c in u %}[{{ c }}]{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}{% for k, v in de.items() %}x{% endfor %}
{% for a in l if a > 1 %}{{ a }}{{ loop.index }}/{{ loop.length }}{% else %}none{% endfor %}{% for a in l if a > 9 %}x{% else %}none{% endfor %}
{% for a in l %}{% for b in ls %}{{ loop.depth }}{{ b }}{% endfor %}{{ loop.index }}{% endfor %}
{% for a in l %}{% if a == 1 %}{% continue %}{% endif %}{{ a }}{% endfor %}{% for a in l %}{% if a == 1 %}{% break %}{% endif %}{{ a }}{% endfor %}
{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for a, b in l %}{% endfor %}
{% for a in l %}{{ loop.cycle('x', 'y') }}{{ loop.changed(a > 1) }}{% endfor %}
{% set a = 1 %}{% for b in l %}{% set a = a + b %}{{ a }},{% endfor %}{{ a }}
{% set a = 1 %}{% if t %}{% set a = 2 %}{% endif %}{{ a }}
{% set ns = namespace(a=1, b='x') %}{% for b in l %}{% set ns.a = ns.a + b %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ ns.zz is defined }}
{% set ns = namespace({'a': 1}) %}{% set ns.c = 5 %}{{ ns.a }}{{ ns.c }}
{% set ns = namespace(_x=1) %}
{% set d.b = 3 %}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}{% set (e1, f1) = [3, 4] %}{{ e1 }}{{ f1 }}
{% set x2 %}block {{ i }}{% endset %}[{{ x2 }}]{% set y2 | upper | trim %} abc {% endset %}[{{ y2 }}]
{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, 3) }}|{{ m(1, c=5) }}|{{ m() }}|{{ m(b=1, a=2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(zz=2) }}
{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}
{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(5) }}
{% macro fact(k) %}{% if k <= 1 %}1{% else %}{{ k }}*{{ fact(k - 1) }}{% endif %}{% endmacro %}{{ fact(5) }}
{% macro loopy(k) %}{{ loopy(k + 1) }}{% endmacro %}{{ loopy(0) }}
{% macro m() %}<{{ caller('z') }}>{% endmacro %}{% call(v) m() %}in {{ v }}{% endcall %}
{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}in {{ s }}{% endcall %}
{% macro m() %}x{% endmacro %}{% set v = m() %}{{ v ~ 'y' }}{{ v|length }}{{ m is callable }}
{% set g = 'outer' %}{% macro m() %}{{ g }}{% endmacro %}{% set g = 'later' %}{{ m() }}
{% macro m(list) %}{% for q in list %}{{ loop.index }}{% endfor %}{% endmacro %}{% for a in l %}{{ m([1, 2]) }}{{ loop.index }}{% endfor %}
{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}
{% with %}{% set a = 1 %}{{ a }}{% endwith %}{{ a is defined }}
{% filter upper %}abc {{ s }}{% endfilter %}{% filter replace('a', 'b') | trim %} aaa {% endfilter %}
{% generation %}gen {{ s }}{% endgeneration %}
{% raw %}{{ not }} {% code %}{# no #}{% endraw %}|{%- raw -%}  x  {%- endraw -%}  y
a {#- comment -#} b {# c #} d {#+ e +#} f
x   {%- if t -%}   y   {%- endif -%}   z
x   {%+ if t +%}   y   {%+ endif %}   z
  {{- s -}}  |  {{ s }}  |
{{ 'a\tb\x41\u00e9\101\z\\' }}{{ "q'q" }}{{ 'con' 'cat' "ed" }}
{{ {'a': 1, 'b': [1, {'c': none}], 3: 4, none: 5, true: 6, 1.5: 7} }}|{{ {'a': 1,} }}|{{ [1, 2,] }}
{{ {'}}': '%}'} }}
{{ s|upper }}{{ s|lower }}{{ u|upper }}{{ u|lower }}{{ 'hello wORLD-foo (bar) [baz] it\'s'|title }}{{ 'hELLO wORLD'|capitalize }}{{ 'ß'|upper }}{{ 'éa'|capitalize }}
{{ 'hello wORLD-foo it\'s x1y'.title() }}{{ 'hELLO'.capitalize() }}{{ 'aBc'.swapcase() }}{{ 'ẞß'.casefold() }}
[{{ sp|trim }}][{{ 'xxaxx'|trim('x') }}][{{ sp.strip() }}][{{ sp.lstrip() }}][{{ sp.rstrip() }}][{{ 'abcba'.strip('ab') }}][{{ '\n\na\n'.lstrip('\n') }}][{{ '\x1c\x1fa\x1e'|trim }}][{{ 5|trim }}][{{ nothing|trim }}]
{{ s|length }}{{ u|length }}{{ l|length }}{{ d|length }}{{ nothing|length }}{{ l|count }}
{{ 5|length }}
{{ l|first }}{{ l|last }}{{ s|first }}{{ le|first is defined }}{{ le|last is defined }}{{ nothing|first }}
{{ l|join }}{{ l|join(', ') }}{{ ls|join('-') }}{{ rows|join(',', attribute='n') }}{{ s|join('.') }}{{ mixed|join('|') }}{{ nothing|join }}
{{ l|sort }}{{ ls|sort }}{{ ls|sort(case_sensitive=true) }}{{ l|sort(reverse=true) }}{{ rows|sort(attribute='v')|map(attribute='n')|join }}{{ rows|sort(attribute='g,v')|map(attribute='n')|join }}
{{ mixed|sort }}
{{ l|reverse|list }}{{ s|reverse }}{{ u|reverse }}{{ l|list }}{{ s|list }}{{ d|list }}
{{ ls|map('upper')|list }}{{ rows|map(attribute='v')|sum }}{{ rows|map(attribute='zz', default='-')|join }}{{ l|map('string')|join('/') }}{{ ['  a ', 'b ']|map('trim')|list }}{{ [[1,2],[3]]|map('length')|list }}{{ ['a']|map('replace', 'a', 'b')|list }}
{{ l|select('gt', 1)|list }}{{ l|reject('odd')|list }}{{ mixed|select|list }}{{ rows|selectattr('v', 'gt', 1)|map(attribute='n')|list }}{{ rows|rejectattr('g', 'equalto', 'p')|map(attribute='n')|list }}{{ rows|selectattr('zz', 'defined')|list }}{{ mixed|select('string')|list }}{{ rows|selectattr('n')|list|length }}
{{ d|dictsort }}{{ {'b': 2, 'A': 1}|dictsort }}{{ {'b': 1, 'a': 2}|dictsort(by='value') }}{{ {'b': 1, 'a': 2}|dictsort(reverse=true) }}{{ {'b': 2, 'A': 1, 'a': 0}|dictsort(true) }}
{{ [1, 2, 1, 3]|unique|list }}{{ ls|unique|list }}{{ ['a', 'A']|unique|list }}{{ ['a', 'A']|unique(true)|list }}{{ rows|unique(attribute='g')|map(attribute='n')|list }}
{{ l|min }}{{ l|max }}{{ ls|min }}{{ ls|max }}{{ rows|max(attribute='v') }}{{ le|min is defined }}{{ l|sum }}{{ rows|sum(attribute='v') }}{{ l|sum(start=10) }}
{{ [1,2,3,4,5]|batch(2)|list }}{{ [1,2,3]|batch(2, 'x')|list }}
{% for g in rows|groupby('g') %}{{ g.0 }}:{{ g[1]|map(attribute='n')|join }};{% endfor %}{% for k, v in rows|groupby('g') %}{{ k }}{{ v|length }}{% endfor %}
{{ nothing|default('d') }}{{ e|default('d') }}{{ e|default('d', true) }}{{ n|default('d') }}{{ n|d('d', boolean=true) }}{{ nothing|default }}{{ d.zz|default('z') }}
{{ '42'|int }}{{ 'x'|int }}{{ 'x'|int(5) }}{{ 3.9|int }}{{ '3.9'|int }}{{ -3.9|int }}{{ ' 7 '|int }}{{ 'ff'|int(0, 16) }}{{ '0x1f'|int(base=16) }}{{ true|int }}{{ none|int }}{{ '1_0'|int }}{{ '1__0'|int }}{{ 1e30|int }}{{ l|int(9) }}
{{ '3.5'|float }}{{ 'x'|float }}{{ 3|float }}{{ '1e3'|float }}{{ 'inf'|float }}{{ ' 2 '|float }}{{ none|float(1.5) }}
{{ nothing|int }}
{{ 2.5|round }}|{{ 3.5|round }}|{{ 2.567|round(2) }}|{{ 2.5|round(0, 'ceil') }}|{{ 2.5|round(method='floor') }}|{{ 42|round }}|{{ 1234.5|round(-2) }}|{{ 1234|round(-2) }}|{{ -2.5|round }}|{{ 0.125|round(2) }}|{{ 2|round(0, 'ceil') }}
{{ -5|abs }}{{ -5.5|abs }}{{ true|abs }}
{{ html|escape }}{{ html|e|e }}{{ html|safe }}{{ html|safe + '<b>' }}{{ '<b>' + html|safe }}{{ html|safe ~ '<b>' }}{{ html|forceescape }}{{ 5|e }}{{ html|safe|length }}{{ html|safe|upper + '<' }}
{{ d|tojson }}|{{ mixed|tojson }}|{{ ctl|tojson }}|{{ html|tojson }}|{{ u|tojson }}|{{ u|tojson(ensure_ascii=true) }}|{{ big|tojson }}|{{ [x, tiny, huge, 1.0, 1e400 if f else 2]|tojson }}|{{ q3|tojson }}
{{ d|tojson(indent=2) }}|{{ mixed|tojson(indent=1) }}|{{ le|tojson(indent=2) }}|{{ d|tojson(indent='--') }}|{{ d|tojson(separators=(',', ':')) }}|{{ d|tojson(sort_keys=true) }}|{{ d|tojson(indent=0) }}|{{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }}|{{ (1, 2)|tojson }}
{{ nothing|tojson }}
{{ [nothing]|tojson }}
{{ s|tojson(zz=1) }}
{{ [1, 'a']|string }}{{ none|string }}{{ 1.0|string }}{{ nothing|string }}{{ true|string ~ 1 }}
{{ s|replace('l', 'L') }}{{ s|replace('l', 'L', 1) }}{{ 'aaa'|replace('', '-') }}{{ 'aaa'.replace('a', 'b', 2) }}{{ 'é'|replace('', '.') }}{{ 'abc'|replace('b', '') }}{{ 5|replace('5', 6) }}{{ 'aaa'.replace('', '-', 2) }}
{{ lines|indent }}|{{ lines|indent(2, true) }}|{{ lines|indent(2, blank=true) }}|{{ 'a'|indent(first=true) }}|{{ crlf|indent('> ') }}|{{ ''|indent(2, true) }}
{{ 'ab'|center(6) }}|{{ 'ab'.center(7, '*') }}|{{ 'abc'.center(6, '*') }}|{{ 'ab'.ljust(4) }}|{{ 'ab'.rjust(4, '.') }}|{{ '-5'.zfill(4) }}|{{ '5'.zfill(3) }}|{{ 'ab'.zfill(1) }}
{{ csv.split(',') }}{{ csv.split(',', 1) }}{{ csv.rsplit(',', 1) }}{{ ' a  b '.split() }}{{ ' a  b  c '.split(None, 1) }}{{ ' a  b  c '.rsplit(None, 1) }}{{ ''.split() }}{{ ''.split(',') }}{{ 'abab'.split('ab') }}{{ 'a b'.split(maxsplit=0) }}{{ 'xaay'.rsplit('a') }}
{{ 'a'.split('') }}
{{ lines.splitlines() }}{{ crlf.splitlines() }}{{ crlf.splitlines(true) }}{{ 'a\u2028b\x85c\x0bd'.splitlines() }}{{ ''.splitlines() }}
{{ s.startswith('He') }}{{ s.startswith(('x', 'H')) }}{{ s.endswith('ld') }}{{ s.startswith('e', 1) }}{{ s.endswith('', 3, 2) }}{{ u.startswith('ö', 2) }}
{{ s.find('o') }}{{ s.find('zz') }}{{ s.rfind('o') }}{{ s.index('W') }}{{ u.find('中') }}{{ s.find('o', 5) }}{{ s.count('l') }}{{ s.count('l', 4) }}{{ 'aaa'.count('') }}
{{ s.index('zz') }}
{{ s.upper() }}{{ s.lower() }}{{ 'x'.join(['a', 'b']) }}{{ ','.join([]) }}{{ 'abc'.partition('b') }}{{ 'abc'.partition('z') }}{{ 'abcbd'.rpartition('b') }}{{ 'abc'.rpartition('z') }}{{ 'prefix'.removeprefix('pre') }}{{ 'prefix'.removesuffix('fix') }}
{{ 'x'.join([1]) }}
{{ '12'.isdigit() }}{{ 'a1'.isalnum() }}{{ 'ab'.isalpha() }}{{ ' '.isspace() }}{{ ''.isdigit() }}{{ 'AB'.isupper() }}{{ 'ab1'.islower() }}{{ '1'.islower() }}
{{ d.get('b') }}{{ d.get('zz') }}{{ d.get('zz', 5) }}{{ d.keys()|list }}{{ d.values()|list }}{{ nested.items()|list }}{{ de.get(none) }}
{{ [1, 2, 1].count(1) }}{{ [1, 2].index(2) }}{{ (1, 2).index(2) }}{{ d.copy() == d }}
{{ l.append(1) }}
{{ d.update({'x': 1}) }}
{{ d.pop('b') }}
{{ s.zz() }}
{{ s() }}
{{ nothing() }}
{{ range(3)|list }}{{ range(1, 4)|list }}{{ range(5, 0, -2)|list }}{{ range(0)|list }}{{ range(3, 1)|list }}{{ range(10)|length }}{% for a in range(2) %}{{ a }}{% endfor %}{{ range(10, 0, -3)|list }}
{{ range(200000) }}
{{ range(1, 2, 0) }}
{{ dict(a=1, b=2) }}{{ dict([('a', 1)]) }}{{ dict({'a': 1}, b=2) }}
{{ s is string }}{{ l is string }}{{ l is iterable }}{{ s is iterable }}{{ i is iterable }}{{ d is mapping }}{{ l is mapping }}{{ l is sequence }}{{ d is sequence }}{{ s is sequence }}{{ i is sequence }}{{ n is iterable }}{{ nothing is iterable }}{{ nothing is sequence }}{{ nothing is mapping }}{{ (1,) is sequence }}
{{ n is none }}{{ nothing is none }}{{ nothing is defined }}{{ n is defined }}{{ nothing is undefined }}{{ t is boolean }}{{ 1 is boolean }}{{ t is true }}{{ 1 is true }}{{ f is false }}{{ 0 is false }}{{ n is false }}
{{ 1 is integer }}{{ true is integer }}{{ 1.0 is integer }}{{ 1.0 is float }}{{ 1 is float }}{{ 1 is number }}{{ true is number }}{{ '1' is number }}{{ range is callable }}{{ s.upper is callable }}{{ s is callable }}
{{ 3 is odd }}{{ 3 is even }}{{ 4 is even }}{{ 9 is divisibleby 3 }}{{ 9 is divisibleby(2) }}{{ 'a' is lower }}{{ 'A' is upper }}{{ 'aB' is lower }}{{ '' is lower }}
{{ 1 is eq 1 }}{{ 1 is ne(2) }}{{ 1 is lt 2 }}{{ 2 is ge 2 }}{{ 1 is in [1] }}{{ 1 is not in [1] }}{{ s is sameas s }}{{ 1 is sameas true }}{{ none is sameas none }}{{ 'x' is equalto 'x' }}{{ s is not string }}{{ not s is string }}{{ 'upper' is filter }}{{ 'odd' is test }}{{ 'zz' is filter }}
{{ s is string and i is integer }}{{ nothing is not defined or nothing.x }}{{ 'y' if d.a is defined and d.a is not none else 'n' }}{{ (d.a is defined) ~ 'x' }}
{{ '%s and %s' % ('a', 1) }}{{ '%d%%' % 5 }}{{ '%.2f' % 3.14159 }}{{ '%05d|%-4d|%+d' % (42, 7, 3) }}{{ '%s' % 'x' }}{{ '%r' % 'x' }}{{ '%s' % [1] }}{{ '%x' % 255 }}{{ '%s'|format('q') }}
{{ '%s %s' % 'a' }}
{{ '{} {}'.format(1, 'a') }}{{ '{1}{0}'.format('a', 'b') }}{{ '{x}'.format(x=5) }}{{ '{{}}'.format() }}
{{ '{} {}'.format(1) }}
{{ raise_exception('bad ' ~ i) }}
{{ 'a b  c-d'|wordcount }}{{ s|attr('upper') is callable }}{{ d|attr('b') is defined }}
{{ messages[0].role }}{{ messages|length }}{{ tools is none }}{{ tools is defined }}{{ documents is none }}{{ add_generation_prompt }}
{{ messages|map(attribute='role')|join(',') }}{{ messages|selectattr('role', 'eq', 'user')|list|length }}
{{ [i, x, t, n] ~ d }}{{ l ~ l }}
{{ (l|length) - 1 }}{{ l|length - 1 }}{{ l|length is eq 3 }}{{ not l|length > 5 }}
{{ s[1:3] ~ s[i:] ~ s[n:2] }}{{ 'abc'[none] is defined }}{{ l['0'] is defined }}
{{ s.upper().lower()[0].upper() }}{{ s.split(', ')[1][0] }}{{ ('a' ~ 'b').upper() }}{{ [1, 2][0] }}{{ {'a': 5}['a'] }}{{ {'a': 5}.a }}{{ (1, 2)[1] }}
{% set a = 'x' if f %}{{ a is defined }}{% set b = (1 if t else 2) %}{{ b }}
{% if l %}a{% endif %}{% if le %}b{% endif %}{% if nothing %}c{% endif %}{% if 0.0 %}d{% endif %}{% if ' ' %}e{% endif %}{% if de %}f{% endif %}{% if (0,) %}g{% endif %}
{% for m in messages %}{% if loop.first and m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}{{ m is defined }}{{ loop is defined }}
{% set loop_messages = messages[1:] %}{{ loop_messages }}{{ loop_messages|length }}
{{ nothing.x is defined }}
{{ d.zz.yy|default('q') }}
{% include 'x' %}
{% extends 'x' %}
{% import 'x' as y %}
{% unknown %}
{{ s|nofilter }}
{{ s is notest }}
{% if t %}
{{ s
{{ (1 }}
{{ 1 + }}
{% for %}{% endfor %}
{# open
{{ 'open }}
{% endif %}
{% break %}
{{ a b }}
{% set 1 = 2 %}
{{ $ }}
{% macro m(a=1, b) %}{% endmacro %}
{{ 1e400 }}{{ -1e400 }}{{ [1e400, 1e400 - 1e400]|tojson }}
{{ 'İ'|lower }}{{ 'ﬁ'|upper }}{{ 'ΑΣ'|lower }}{{ 'ǆ'|capitalize }}{{ 'ÿ'|upper }}
{{ (i, s)|list }}{{ s|list|length }}{{ [s]|list|tojson }}
{{ [[]] }}{{ [{}] }}{{ [()] }}{{ ['\x85\u3000\ud7ff\ue000😀\u0301'] }}
{{ -0.0 }}{{ 0.0 }}{{ 1e-4 }}{{ 1e-5 }}{{ 5e-324 }}{{ 1.7976931348623157e308 }}{{ 123456789.123 }}{{ 100000000000000000000.0 }}
{% for a in [1, 2] -%} {{ a }} {%- endfor %}
{{ -l|length }}
{% for a in l %}{% set outer = loop %}{% for b in [1, 2] %}{{ outer.index }}.{{ loop.index }}{{ ' ' if not (outer.last and loop.last) }}{% endfor %}{% endfor %}
{% macro m() %}{% set ns = namespace(x=[]) %}{% for a in l %}{% set ns.x = ns.x + [a * 2] %}{% endfor %}{{ ns.x }}{% endmacro %}{{ m() }}{{ m()|length }}
{% for a in l %}{% if loop.first %}{% set z1 = a %}{% endif %}{{ z1 is defined }}{% endfor %}{{ z1 is defined }}
{% for a in l %}{% set i = i + a %}{{ i }},{% endfor %}{{ i }}
{{ s[:5]|upper ~ (s[5:]|lower) }}{{ l|map('string')|map('length')|list }}{{ rows|map(attribute='n')|map('lower')|unique|sort|join('/') }}
{{ (s ~ u)|replace('o', '0')|replace('l', '1') }}
{% set f2 = s.upper %}{{ f2() }}{% set j = ','.join %}{{ j(['a', 'b']) }}
{{ namespace(a=1).a }}{{ dict(a=[1]).a[0] }}{{ [dict(a=1), dict(a=2)]|map(attribute='a')|list }}
{{ 'abc' is in ['abc'] }}{{ 'a' is in 'abc' }}{{ [] == () }}{{ {} == dict() }}{{ 'a' != 'b' }}{{ 1 != 1.0 }}{{ 2 >= 2 >= 1 }}
{% for k, v in d.items() %}{{ loop.index }}:{{ k }}={{ v|tojson }}{{ ',' if not loop.last }}{% endfor %}
{% for g in [1, 2, 3] if g is odd %}{{ g }}{{ loop.previtem|default('-') }}{{ loop.nextitem|default('-') }}{% endfor %}
{% if 'x' in d.a and d['b'] == 1 or none %}yes{% endif %}{% if not d.a[0] == 1 %}no{% else %}yes{% endif %}
{{ loop is defined }}{{ caller is defined }}{{ varargs is defined }}
{% if t -%}   trimmed   {%- endif %}!
""".strip("\n").split("\n")

TEMPLATES += [
    "{% if t %}\n  a\n{% endif %}\n  {% for a in l %}\n    {{ a }}\n  {% endfor %}\nend\n",
    "x {% if t %}\n  a\n  {% endif %} y\n",
    "{% if t -%}\n\n  a\n\n{%- endif %}\n\n",
    "  {# c #}\n  {% set a = 1 %}\n\tb\n\n",
    "a\r\n  {% if t %}\r\nb\r{% endif %}\r\n\r\n",
    "{{ 'a\nb' }}\n{{\n s\n}}\n",
    "  {%+ if t %}\n x\n  {%+ endif %}\n",
    "{% raw %}\n  {{ x }}\n{% endraw %}\nz\n",
    "  {% raw -%}\n  y  {%- endraw %}\n",
    "{%- set a = 1 -%}\n\n{{- a -}}\n\n",
    "{% macro m(a) %}\n  <{{ a }}>\n{% endmacro %}\n{{ m(1) }}\n",
    "{% macro m(a) -%}\n  <{{ a }}>\n{%- endmacro -%}\n\n{{ m(1) }}\n",
    "a\n\n\n",
    "",
    "\n",
    "{{ s }}{# c #}\n",
    "{{ s }}\n\n",
    "{%if t%}tight{%endif%}{{s}}{{-s-}}",
    "{%- for a in l -%}\n  {{- a -}}\n{%- endfor -%}\n",
    "{% set x2 %}\n  a\n{% endset %}[{{ x2 }}]",
    "{{ 1 if t else\n 2 }}",
    "   \n  {{- s }}",
]

MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]

for source in TEMPLATES:
    line = {"template": source}
    try:
        line["expected"] = _compile_jinja_template(source).render(
            messages=MESSAGES, tools=None, documents=None, add_generation_prompt=False, **VARS)
    except RecursionError as error:
        line["error"] = "RecursionError"
    except Exception as error:
        line["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(line, ensure_ascii=False))
print(json.dumps({"vars": VARS, "messages": MESSAGES}, ensure_ascii=False))
