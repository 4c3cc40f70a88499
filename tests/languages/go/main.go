// Runs what docs/from-your-language.md shows, and then falls into each of its traps.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func main() {
	ctx := context.Background()
	connection, err := pgx.Connect(ctx, os.Getenv("DATABASE"))
	must(err)
	defer connection.Close(ctx)

	err = pgx.BeginFunc(ctx, connection, func(tx pgx.Tx) error {
		id, err := Approve(ctx, tx, "o-42", 1250)
		fmt.Println("event", id)
		return err
	})
	must(err)

	trap := func(name, insert string, values ...any) {
		err := pgx.BeginFunc(ctx, connection, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, insert, values...)
			if err != nil {
				return err
			}
			rows.Close()
			return rows.Err()
		})
		var refused *pgconn.PgError
		switch {
		case err == nil:
			fmt.Println("trap", name, "none")
		case errors.As(err, &refused):
			fmt.Println("trap", name, refused.Code, refused.ConstraintName)
		default:
			must(err)
		}
	}
	const row = "insert into outbox.event (topic, event_type, key, headers) values ('orders', 'Trap', $1, $2)"
	var none map[string]string
	trap("empty", row, "", none)
	trap("json-null", row, "o-1", json.RawMessage("null"))
	trap("returning", row+" returning created_at", "o-1", none)
	trap("right", row, (*string)(nil), none)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
