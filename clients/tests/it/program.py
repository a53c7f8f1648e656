"""Uses a database in the ways that psycopg offers, and prints what it gets. Ids and times are not printed."""

import sys
import threading

import psycopg
from psycopg.rows import dict_row

URL = sys.argv[1]


def connect(**options):
    return psycopg.connect(URL, **options)


def attempt(what, action):
    """Prints what an action gives, or how it fails."""
    try:
        print(what, "->", action())
    except psycopg.Error as error:
        print(what, "->", type(error).__name__, error.sqlstate, str(error).splitlines()[0])


def values(connection):
    return [v for (v,) in connection.execute("SELECT v FROM t ORDER BY v").fetchall()]


def status(connection):
    return connection.info.transaction_status.name


def parameters():
    with connect() as connection:
        print("parameters:", status(connection), connection.info.parameter_status("server_encoding"))
        everything = connection.execute(
            "SELECT %s::int, %s::text, %s::bytea, %s::jsonb, %s::int[]",
            (7, "it's", b"\x00\xff", '{"a": [1]}', [1, 2]),
        )
        print(everything.fetchone())
        for binary in (False, True):
            cursor = connection.cursor(binary=binary, row_factory=dict_row)
            print(cursor.execute("SELECT %t AS text, %b AS number", ("x", 8)).fetchone())
        cursor = connection.cursor()
        cursor.executemany("INSERT INTO t (v) VALUES (%s) RETURNING v", [("many 1",), ("many 2",)], returning=True)
        print(cursor.fetchone(), cursor.nextset(), cursor.fetchone(), cursor.nextset())
        print(psycopg.ClientCursor(connection).execute("SELECT %s, %s", ("a", 1)).fetchone())


def transactions():
    connection = connect()
    connection.execute("INSERT INTO t (v) VALUES ('committed')")
    print("transactions:", status(connection))
    connection.commit()
    attempt("again", lambda: connection.execute("INSERT INTO t (v) VALUES ('committed')"))
    attempt("after an error", lambda: connection.execute("SELECT 1"))
    print(status(connection))
    connection.rollback()
    with connection.transaction():
        connection.execute("INSERT INTO t (v) VALUES ('outer')")
        try:
            with connection.transaction():
                connection.execute("INSERT INTO t (v) VALUES ('inner')")
                connection.execute("INSERT INTO t (v) VALUES ('outer')")
        except psycopg.errors.UniqueViolation as error:
            print("inner", error.diag.constraint_name, error.diag.message_detail)
        with connection.transaction("named"):
            connection.execute("INSERT INTO t (v) VALUES ('named')")
            raise psycopg.Rollback
    print(status(connection), values(connection))
    connection.rollback()
    connection.autocommit = True
    connection.execute("INSERT INTO t (v) VALUES ('autocommit')")
    attempt("fails alone", lambda: connection.execute("INSERT INTO t (v) VALUES ('autocommit')"))
    print(status(connection), values(connection))
    several = connection.execute("INSERT INTO t (v) VALUES ('several'); SELECT 5; DELETE FROM t WHERE v = 'several'")
    print(several.statusmessage, several.nextset(), several.fetchall(), several.nextset(), several.rowcount)
    connection.close()
    # What isn't committed when the connection closes is gone.
    connection = connect()
    connection.execute("INSERT INTO t (v) VALUES ('left open')")
    connection.close()
    with connect() as connection:
        print(values(connection))


def prepared():
    with connect(prepare_threshold=1) as connection:
        for number in range(4):
            cursor = connection.execute("SELECT count(*) FROM t WHERE v <> %s", (str(number),))
            print("prepared:", cursor.fetchone())
        connection.execute("INSERT INTO t (v) VALUES (%s)", ("prepared",), prepare=True)
        connection.rollback()
        connection.execute("INSERT INTO t (v) VALUES (%s)", ("prepared",), prepare=True)
        names = "SELECT statement FROM pg_prepared_statements WHERE statement LIKE 'INSERT%'"
        print(connection.execute(names, prepare=False).fetchall())


def pipeline():
    with connect(autocommit=True) as connection:
        with connection.pipeline() as pipe:
            first = connection.execute("INSERT INTO t (v) VALUES (%s) RETURNING v", ("piped 1",))
            second = connection.execute("INSERT INTO t (v) VALUES (%s) RETURNING v", ("piped 2",))
            pipe.sync()
            third = connection.execute("SELECT count(*) FROM t WHERE v LIKE 'piped%%'")
            print("pipeline:", first.fetchone(), second.fetchone(), third.fetchone())
        try:
            with connection.pipeline() as pipe:
                connection.execute("INSERT INTO t (v) VALUES ('piped 3')")
                pipe.sync()
                # Raised as soon as it has been read: by the next call, or where the pipeline ends.
                connection.execute("INSERT INTO t (v) VALUES ('piped 1')")
                connection.execute("INSERT INTO t (v) VALUES ('piped 4')")
        except psycopg.Error as error:
            print("failed:", type(error).__name__, error.sqlstate)
        print(status(connection), values(connection))
        with connection.pipeline(), connection.transaction():
            connection.execute("INSERT INTO t (v) VALUES ('piped 5')")
            raise psycopg.Rollback
        print(status(connection), values(connection))


def cursors():
    with connect() as connection:
        with connection.cursor(name="numbers", scrollable=True) as cursor:
            cursor.execute("SELECT generate_series(1, %s)", (10,))
            print("cursors:", cursor.fetchone(), cursor.fetchmany(3))
            cursor.scroll(-2)
            print(cursor.fetchmany(2))
            cursor.itersize = 2
            print([number for (number,) in cursor])
        with connection.cursor(name="held", withhold=True) as cursor:
            cursor.execute("SELECT generate_series(1, 5)")
            print(cursor.fetchone())
            connection.commit()
            print(cursor.fetchall())
        connection.commit()
        attempt("no such cursor", lambda: connection.execute("FETCH numbers"))


def copies():
    with connect() as connection:
        cursor = connection.cursor()
        with cursor.copy("COPY t (v) FROM STDIN") as copy:
            copy.write_row(("copied 1",))
            copy.write("copied\\t2\n")
        with cursor.copy("COPY t (v) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["text"])
            copy.write_row(("copied 3",))
        with cursor.copy("COPY (SELECT v, length(v) FROM t ORDER BY v) TO STDOUT") as copy:
            copy.set_types(["text", "int4"])
            print("copies:", list(copy.rows()))
        connection.commit()

        def give_up():
            with cursor.copy("COPY t (v) FROM STDIN") as copy:
                copy.write_row(("never",))
                raise KeyError("given up")

        try:
            give_up()
        except KeyError as error:
            print(error, status(connection))
        connection.rollback()
        print(len(values(connection)))


def cancels(cancel):
    connection = connect(autocommit=True)
    ended = threading.Event()

    def sleep():
        attempt("sleeps", lambda: connection.execute("INSERT INTO t (v) SELECT 'asleep' FROM pg_sleep(600)"))
        ended.set()

    thread = threading.Thread(target=sleep)
    thread.start()
    # One that comes before the statement runs does nothing.
    while not ended.is_set():
        cancel(connection)
    thread.join()
    # One that was on its way when the statement ended may hit what comes next, here as there.
    connection.close()
    with connect() as other:
        print(len(values(other)))


def notifications():
    with connect(autocommit=True) as listener, connect() as sender:
        listener.execute("LISTEN news")
        sender.execute("SELECT pg_notify('news', %s)", ("undone",))
        sender.rollback()
        sender.execute("SELECT pg_notify('news', %s)", ("first",))
        sender.execute("NOTIFY news, 'second'")
        sender.commit()
        heard = [(notify.channel, notify.payload) for notify in listener.notifies(timeout=30, stop_after=2)]
        print("notifications:", heard)


def errors():
    with connect() as connection:
        attempt("syntax", lambda: connection.execute("SELEC 1"))
        connection.rollback()
        attempt("parameters", lambda: connection.execute("SELECT %s::int", ("x",)))
        connection.rollback()


parameters()
transactions()
prepared()
pipeline()
cursors()
copies()
cancels(lambda connection: connection.cancel())
cancels(lambda connection: connection.cancel_safe())
notifications()
errors()
print("the end")
