"""How migrations' SQL is judged: additive statements are harmless, all others need approval."""

from __future__ import annotations

import pytest

from alva.checks.sql import judge

TAKES_AWAY = [
    ("ALTER TABLE t DROP c", "drops column t.c"),
    ("ALTER TABLE t DROP COLUMN IF EXISTS c CASCADE", "drops column t.c"),
    ("ALTER TABLE s.t RENAME a TO b", "renames column s.t.a"),
    ("ALTER TABLE t RENAME COLUMN a TO b", "renames column t.a"),
    ("ALTER TABLE a RENAME TO b", "renames table a"),
    ("ALTER TABLE t RENAME CONSTRAINT a TO b", "renames"),
    ("ALTER TABLE t ALTER c TYPE bigint", "changes the type of column t.c"),
    ("ALTER TABLE t ALTER COLUMN c SET DATA TYPE text USING c::text", "changes the type of column t.c"),
    ("ALTER TABLE t ALTER c SET NOT NULL", "requires a value in column t.c"),
    ("ALTER TABLE t ALTER c DROP DEFAULT", "drops the default of column t.c"),
    ("ALTER TABLE t DROP CONSTRAINT k", "drops constraint k of table t"),
    ("ALTER TABLE t ADD CONSTRAINT k CHECK (a > 0)", "adds check constraint k to table t"),
    ("ALTER TABLE t ADD CONSTRAINT k CHECK (a > 0) NOT VALID", "adds check constraint k to table t"),
    ("ALTER TABLE t ADD UNIQUE (a)", "adds unique constraint to table t"),
    ("ALTER TABLE t ADD PRIMARY KEY (a)", "adds primary constraint to table t"),
    ("ALTER TABLE t ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES u (id)", "adds foreign constraint k to table t"),
    ("ALTER TABLE t ADD COLUMN c int NOT NULL", "adds column t.c without a default"),
    ("ALTER TABLE t ADD c text NOT NULL CHECK (c <> '')", "adds column t.c without a default"),
    ("ALTER TABLE t ADD c int DEFAULT 0 UNIQUE", "with a constraint that inserts without it may break"),
    ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", "restricts the rows of table t"),
    ("ALTER TABLE t SET SCHEMA other", "moves table t to schema other"),
    ("ALTER TABLE t ATTACH PARTITION p DEFAULT", "not known to only add"),
    ("ALTER TABLE t OWNER TO somebody", "not known to only add"),
    ("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", "renames value sad of type mood"),
    ("ALTER TYPE mood RENAME TO feeling", "renames type mood"),
    ("ALTER SEQUENCE s RESTART", "not known to only add"),
    ("CREATE TABLE p PARTITION OF t FOR VALUES IN (1)", "a part of an existing one"),
    ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", "unique: it may reject"),
    ("CREATE OR REPLACE VIEW v AS SELECT 1 AS a", "replaces view v"),
    ("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "replaces function f"),
    ("CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()", "not known to only add"),
    ("CREATE RULE r AS ON INSERT TO t DO INSTEAD NOTHING", "not known to only add"),
    ("CREATE POLICY p ON t USING (false)", "not known to only add"),
    ("DROP TABLE s.t", "drops table s.t"),
    ("DROP VIEW v", "drops view v"),
    ("DROP INDEX i", "drops index i"),
    ("DROP SCHEMA s CASCADE", "drops schema s"),
    ("DROP TYPE mood", "drops type mood"),
    ("DROP FUNCTION f(int)", "drops function"),
    ("DROP OWNED BY alva", "drops what a role owns"),
    ("TRUNCATE t", "empties a table"),
    ("DELETE FROM t WHERE a = 'x'", "deletes rows of t"),
    ("UPDATE t SET a = 1", "changes rows of t"),
    ("INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 2", "changes rows of t"),
    ("WITH gone AS (DELETE FROM t RETURNING *) INSERT INTO u SELECT * FROM gone", "changes or deletes rows in a query"),
    ("SELECT setval('s', 1)", "calls functions that may change something: setval"),
    ("SELECT set_config('search_path', '', false)", "calls functions"),
    ("SET search_path = other", "sets search_path"),
    ("CREATE TABLE n AS SELECT drop_everything()", "calls functions"),
    ("INSERT INTO t (a) VALUES (drop_everything())", "calls functions"),
    ("ALTER TABLE t ADD c int DEFAULT NULL::int NOT NULL", "adds column t.c without a default"),
    ("ALTER TABLE t ADD c int CHECK (c IS NOT NULL)", "with a constraint that inserts without it may break"),
    (
        "CREATE TABLE n (a int); WITH gone AS (DELETE FROM t RETURNING a) INSERT INTO n SELECT a FROM gone",
        "changes or deletes rows in a query",
    ),
    ("CREATE TABLE IF NOT EXISTS t (a int); ALTER TABLE t DROP a", "drops column t.a"),
    ("SELECT drop_everything()", "calls functions"),
    ("REVOKE SELECT ON t FROM alva", "revokes privileges"),
    ("DO $$ BEGIN EXECUTE 'DROP TABLE t'; END $$", "runs a DO block"),
    ("DO $$ BEGIN DROP TABLE t; EXCEPTION WHEN duplicate_object THEN null; END $$", "drops table t"),
    (
        "DO $$ BEGIN ALTER TABLE t ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES u(id); "
        "EXCEPTION WHEN duplicate_object THEN null; END $$",
        "adds foreign constraint k to table t",
    ),
    ("DO $$ BEGIN CREATE TABLE n (); EXCEPTION WHEN others THEN DROP TABLE t; END $$", "runs a DO block"),
    (
        "DO $$ BEGIN CREATE TABLE n (); DROP TABLE t; EXCEPTION WHEN duplicate_object THEN null; END $$",
        "runs a DO block",
    ),
    ("DO LANGUAGE sql $$ BEGIN SELECT 1; EXCEPTION WHEN duplicate_object THEN null; END $$", "runs a DO block"),
    ("VACUUM FULL t", "VACUUM FULL"),
    ("EXPLAIN ANALYZE DELETE FROM t", "not known to only add"),
    ("CREATE TEMP TABLE t (a int); DROP TABLE t; ALTER TABLE t DROP a", "drops table t"),
    ("CALL p()", "calls a procedure"),
    ("LOCK TABLE t", "not known to only add"),
    ("ALTER ROLE alva NOLOGIN", "not known to only add"),
    ("alter table t drp c", "PostgreSQL's parser refuses"),
]

ONLY_ADDS = [
    "CREATE TABLE t (id int PRIMARY KEY, u int NOT NULL REFERENCES v (id), CHECK (id > 0))",
    "CREATE TABLE t (id int); CREATE UNIQUE INDEX i ON t (id); ALTER TABLE t ADD CHECK (id > 0); UPDATE t SET id = 1",
    "CREATE TABLE s.t (id int); ALTER TABLE s.t DROP COLUMN id; ALTER TABLE s.t ENABLE ROW LEVEL SECURITY",
    "CREATE SCHEMA api; CREATE EXTENSION IF NOT EXISTS pgcrypto; CREATE SEQUENCE s",
    "CREATE TYPE mood AS ENUM ('sad'); ALTER TYPE mood ADD VALUE 'ok'",
    "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
    "CREATE VIEW v AS SELECT 1 AS a",
    "CREATE MATERIALIZED VIEW v AS SELECT 1 AS a",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE INDEX CONCURRENTLY i ON t (a)",
    "ALTER TABLE t ADD COLUMN c int",
    "ALTER TABLE t ADD COLUMN c int NOT NULL DEFAULT 0",
    "ALTER TABLE t ADD COLUMN c bigint GENERATED BY DEFAULT AS IDENTITY",
    "ALTER TABLE t ADD COLUMN c int REFERENCES u (id)",
    "ALTER TABLE t ALTER c SET DEFAULT 1",
    "ALTER TABLE t ALTER c DROP NOT NULL",
    "ALTER TABLE t VALIDATE CONSTRAINT k",
    "COMMENT ON TABLE t IS NULL",
    "GRANT SELECT ON t TO alva",
    "INSERT INTO t (a) VALUES (1) ON CONFLICT DO NOTHING",
    "SET lock_timeout = '5s'; SET LOCAL statement_timeout = 0",
    "ANALYZE t",
    "VACUUM t",
    # In Drizzle's form.
    "CREATE TABLE t (a int);--> statement-breakpoint\nDO $$ BEGIN\n ALTER TABLE t ADD CONSTRAINT k FOREIGN KEY (a) "
    "REFERENCES u(id) ON DELETE no action;\nEXCEPTION\n WHEN duplicate_object THEN null;\nEND $$;",
    "DO $$ BEGIN\n CREATE TYPE mood AS ENUM ('sad');\nEXCEPTION\n WHEN duplicate_object THEN null;\nEND $$;",
    # In Prisma's form.
    'CREATE TABLE "U" ("id" SERIAL NOT NULL, CONSTRAINT "U_pkey" PRIMARY KEY ("id"));\n'
    'CREATE UNIQUE INDEX "i" ON "U"("id");\n'
    'ALTER TABLE "U" ADD CONSTRAINT "f" FOREIGN KEY ("id") REFERENCES "V"("id") ON DELETE RESTRICT ON UPDATE CASCADE;',
]

LOCKS = [
    ("CREATE INDEX i ON t (a)", "writes wait while it builds the index"),
    ("ALTER TABLE t ADD CONSTRAINT k CHECK (a > 0)", "NOT VALID"),
    ("ALTER TABLE t ADD c float DEFAULT random()", "rewrites the table"),
    ("ALTER TABLE t ALTER c TYPE bigint", "rewrites the table"),
    ("ALTER TABLE t ADD UNIQUE (a)", "builds the constraint's index"),
    ("CREATE INDEX IF NOT EXISTS i ON t (a)", "writes wait while it builds the index"),
]


@pytest.mark.parametrize(("sql", "said"), TAKES_AWAY, ids=[sql[:60] for sql, _ in TAKES_AWAY])
def test_statement_that_is_not_additive_is_named(sql: str, said: str) -> None:
    contractions = judge(sql).contractions
    assert len(contractions) == 1, contractions
    assert said in contractions[0]


@pytest.mark.parametrize("sql", ONLY_ADDS)
def test_additive_statement_is_harmless(sql: str) -> None:
    assert judge(sql).contractions == ()


@pytest.mark.parametrize(("sql", "said"), LOCKS, ids=[sql for sql, _ in LOCKS])
def test_blocking_lock_is_named(sql: str, said: str) -> None:
    locks = judge(sql).locks
    assert any(said in each for each in locks), locks
    assert sql in locks[0]


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX CONCURRENTLY i ON t (a)",
        "CREATE TABLE t (a int); CREATE INDEX i ON t (a)",
        "ALTER TABLE t ADD COLUMN c int",
        "ALTER TABLE t ADD COLUMN c int NOT NULL DEFAULT 0",
    ],
)
def test_quick_statement_has_no_blocking_lock(sql: str) -> None:
    assert judge(sql).locks == ()


def test_every_contraction_of_a_migration_is_named_once() -> None:
    judgement = judge("ALTER TABLE t DROP a, DROP b; DROP TABLE u; DROP TABLE u")
    assert judgement.contractions == ("drops column t.a", "drops column t.b", "drops table u")
