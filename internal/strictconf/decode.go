package strictconf

import (
	"encoding"
	"fmt"
	"iter"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
)

var (
	secretType   = reflect.TypeFor[Secret]()
	durationType = reflect.TypeFor[Duration]()
)

// field is one key that a struct knows.
type field struct {
	name  string
	index []int // as for reflect.Value.FieldByIndex
	typ   reflect.Type
}

// fields yields the keys of a struct, those of its embedded structs among them.
func fields(t reflect.Type) iter.Seq[field] {
	return func(yield func(field) bool) {
		for _, f := range reflect.VisibleFields(t) {
			if name := f.Tag.Get("toml"); name != "" && !yield(field{name, f.Index, f.Type}) {
				return
			}
		}
	}
}

// Keys lists every key that a struct (or a pointer to one) knows, without indices: "folder.source",
// "backup.bastion", "backup.bastion.key".
func Keys(v any) []string {
	var keys []string
	var walk func(table string, t reflect.Type)
	walk = func(table string, t reflect.Type) {
		for f := range fields(t) {
			key := join(table, f.name)
			keys = append(keys, key)
			inner := f.typ
			for inner.Kind() == reflect.Slice || inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct && !isText(inner) {
				walk(key, inner)
			}
		}
	}
	t := reflect.TypeOf(v)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	walk("", t)
	return keys
}

// isText says whether a value of type t is written as a TOML string although it is something else here.
func isText(t reflect.Type) bool {
	return t == secretType || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func setDefaults(v reflect.Value) {
	if d, ok := v.Addr().Interface().(interface{ SetDefaults() }); ok {
		d.SetDefaults()
	}
}

// table takes a TOML table into the struct dst.
func (d *Doc) table(key string, raw map[string]any, dst reflect.Value) {
	known := map[string]field{}
	for f := range fields(dst.Type()) {
		known[f.name] = f
	}
	// In the order of the alphabet, so that equal files give equal complaints.
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		at := join(key, name)
		f, ok := known[name]
		if ok {
			d.value(at, raw[name], dst.FieldByIndex(f.index))
			continue
		}
		if base, isFile := strings.CutSuffix(name, fileSuffix); isFile && known[base].typ == secretType {
			if _, both := raw[base]; both {
				d.refuse(at, "given beside %s; keep one of them", join(key, base))
				continue
			}
			d.secretFile(at, join(key, base), raw[name], dst.FieldByIndex(known[base].index))
			continue
		}
		d.unknown(key, name, raw, known)
	}
}

func (d *Doc) secretFile(at, base string, raw any, dst reflect.Value) {
	d.broken[base] = true // unless it turns out well
	path, ok := raw.(string)
	if !ok {
		d.refuse(at, "must be the path of a file, between quotes")
		return
	}
	if path == "" { // as good as absent
		delete(d.broken, base)
		return
	}
	secret, err := readSecret(path)
	if err != nil {
		d.refuse(at, "%v", err)
		return
	}
	delete(d.broken, base)
	dst.Set(reflect.ValueOf(secret))
}

// value takes a TOML value into dst.
func (d *Doc) value(key string, raw any, dst reflect.Value) {
	switch t := dst.Type(); {
	case t == secretType:
		text, ok := raw.(string)
		if !ok {
			d.refuse(key, "must be a text between quotes")
			return
		}
		dst.Set(reflect.ValueOf(NewSecret(text)))
	case t == durationType && raw == int64(0): // no unit is missing from nothing
		dst.SetInt(0)
	case isText(t):
		d.text(key, raw, dst)
	case t.Kind() == reflect.Struct:
		if table, ok := raw.(map[string]any); ok {
			d.table(key, table, dst)
			return
		}
		d.refuse(key, "must be a table; write it under the header [%s]", header(key))
	case t.Kind() == reflect.Pointer:
		dst.Set(reflect.New(t.Elem()))
		setDefaults(dst.Elem())
		d.value(key, raw, dst.Elem())
	case t.Kind() == reflect.Slice:
		d.list(key, raw, dst)
	case t.Kind() == reflect.Map:
		d.mapping(key, raw, dst)
	default:
		d.scalar(key, raw, dst)
	}
}

func (d *Doc) text(key string, raw any, dst reflect.Value) {
	text, ok := raw.(string)
	switch {
	case ok:
		if err := dst.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
			d.refuse(key, "%v", err)
		}
	case dst.Type() == durationType:
		n, isInt := raw.(int64)
		if !isInt {
			d.refuse(key, `must be a duration between quotes, such as "5s", not %s`, kindOf(raw))
			return
		}
		d.refuse(key, `%d has no unit; write "%[1]dms", "%[1]ds" or "%[1]dm"`, n)
	default:
		d.refuse(key, "must be a text between quotes, not %s", kindOf(raw))
	}
}

func (d *Doc) list(key string, raw any, dst reflect.Value) {
	var elements []any
	switch raw := raw.(type) {
	case []any:
		elements = raw
	case []map[string]any:
		for _, e := range raw {
			elements = append(elements, e)
		}
	default:
		if elem := dst.Type().Elem(); elem.Kind() == reflect.Struct && !isText(elem) {
			d.refuse(key, "there may be several of these; write the header with double brackets, [[%s]]", header(key))
			return
		}
		d.refuse(key, "must be a list; put the value between brackets, [ ]")
		return
	}
	dst.Set(reflect.MakeSlice(dst.Type(), len(elements), len(elements)))
	for i, e := range elements {
		if dst.Index(i).Kind() == reflect.Struct {
			setDefaults(dst.Index(i))
		}
		d.value(Index(key, i), e, dst.Index(i))
	}
}

func (d *Doc) mapping(key string, raw any, dst reflect.Value) {
	table, ok := raw.(map[string]any)
	if !ok {
		d.refuse(key, `must be a table, such as { name = "value" }`)
		return
	}
	dst.Set(reflect.MakeMapWithSize(dst.Type(), len(table)))
	for _, name := range slices.Sorted(maps.Keys(table)) {
		v := reflect.New(dst.Type().Elem()).Elem()
		d.value(join(key, name), table[name], v)
		dst.SetMapIndex(reflect.ValueOf(name).Convert(dst.Type().Key()), v)
	}
}

func (d *Doc) scalar(key string, raw any, dst reflect.Value) {
	want := ""
	switch dst.Kind() {
	case reflect.String:
		if v, ok := raw.(string); ok {
			dst.SetString(v)
			return
		}
		want = "a text between quotes"
	case reflect.Bool:
		if v, ok := raw.(bool); ok {
			dst.SetBool(v)
			return
		}
		want = "true or false, without quotes"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if v, ok := raw.(int64); ok {
			if dst.OverflowInt(v) {
				d.refuse(key, "%d is out of range", v)
				return
			}
			dst.SetInt(v)
			return
		}
		want = "a whole number, without quotes"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if v, ok := raw.(int64); ok {
			if v < 0 || dst.OverflowUint(uint64(v)) {
				d.refuse(key, "%d is out of range", v)
				return
			}
			dst.SetUint(uint64(v))
			return
		}
		want = "a whole number, without quotes"
	case reflect.Float32, reflect.Float64:
		switch v := raw.(type) {
		case float64:
			if math.IsNaN(v) || math.IsInf(v, 0) {
				d.refuse(key, "must be a finite number")
				return
			}
			dst.SetFloat(v)
			return
		case int64:
			dst.SetFloat(float64(v))
			return
		}
		want = "a number, without quotes"
	default:
		// A mistake in the program, found by the first test that loads anything.
		panic(fmt.Sprintf("strictconf: cannot decode %s into a %s", key, dst.Type()))
	}
	d.refuse(key, "must be %s, not %s", want, kindOf(raw))
}

// kindOf names the kind of a value, never the value: it may be a secret in the wrong place.
func kindOf(raw any) string {
	switch raw.(type) {
	case string:
		return "a text"
	case int64, float64:
		return "a number"
	case bool:
		return "true or false"
	case time.Time:
		return "a date"
	case map[string]any:
		return "a table"
	default:
		return "a list"
	}
}

// header is a key as it stands in a table header, without indices.
func header(key string) string {
	var b strings.Builder
	skip := false
	for _, r := range key {
		switch {
		case r == '[':
			skip = true
		case r == ']':
			skip = false
		case !skip:
			b.WriteRune(r)
		}
	}
	return b.String()
}
