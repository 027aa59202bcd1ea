package postgres

// views is a part of the first migration. It makes the views for people who work with SQL: times as timestamptz, names instead of numbers, NULL where there is
// nothing, payloads as JSON. Their columns are named as in the HTTP API, and are kept stable; see docs/sql.md. All their names begin with view, because the tables
// have the plain ones. A role can be given the views without the tables, which hold secrets.
//
// A payload need not be JSON, nor text: view_text and view_json return NULL for one that is not, where a cast would end the whole query with an error. JSON may have
// \u0000 in a text, which visitors can send. PostgreSQL's type json takes it, but its operators and functions end the query. So it is shown as U+FFFD. What they
// refuse beside that (half a surrogate pair, in a body that a program has written) is no JSON.
//
// A body of a function does not name the schema, whose name may end the quotes, and its texts with backslashes are such that no setting of a session
// changes them. A migration makes all of them anew.
const views = `
CREATE OR REPLACE FUNCTION @.view_time(nanoseconds bigint) RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS
	$$SELECT CASE WHEN nanoseconds <> 0 THEN timestamptz '1970-01-01 00:00:00+00' + nanoseconds / 1000 * interval '1 microsecond' END$$;
CREATE OR REPLACE FUNCTION @.view_text(body bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
	$$BEGIN RETURN convert_from(body, 'UTF8'); EXCEPTION WHEN data_exception OR program_limit_exceeded THEN RETURN NULL; END$$;
CREATE OR REPLACE FUNCTION @.view_json(body bytea) RETURNS json LANGUAGE plpgsql IMMUTABLE AS
	$$DECLARE shown text;
	BEGIN
		shown := convert_from(body, 'UTF8');
		IF strpos(shown, E'\\u') > 0 THEN
			shown := regexp_replace(shown, ` + escapedNUL + `);
			PERFORM shown::jsonb;
		END IF;
		RETURN shown::json;
	EXCEPTION WHEN data_exception OR program_limit_exceeded THEN RETURN NULL; END$$;
CREATE OR REPLACE FUNCTION @.view_name(settings json) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
	$$SELECT CASE WHEN strpos(settings::text, E'\\u0000') = 0 THEN settings->>'name' ELSE regexp_replace(settings::text, ` + escapedNUL + `)::json->>'name' END$$;
CREATE OR REPLACE FUNCTION @.view_status(status smallint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
	$$SELECT CASE status WHEN 1 THEN 'scheduled' WHEN 2 THEN 'pending' WHEN 3 THEN 'delivered' WHEN 4 THEN 'failed' WHEN 5 THEN 'cancelled' WHEN 6 THEN 'filtered' END$$;
CREATE OR REPLACE FUNCTION @.view_kind(kind smallint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
	$$SELECT CASE kind WHEN 1 THEN 'complete' WHEN 2 THEN 'incomplete' WHEN 3 THEN 'test' WHEN 4 THEN 'operation' WHEN 5 THEN 'update' END$$;

CREATE OR REPLACE VIEW @.view_sessions AS SELECT s.id AS session_id, CASE WHEN s.finished_at = 0 THEN 'incomplete' ELSE 'complete' END AS state, s.content_id,
	s.visitor AS poltio_user_id, s.events, s.bytes, @.view_time(s.first_at) AS first_received_at, @.view_time(s.last_at) AS last_received_at,
	@.view_time(s.started_at) AS started_at, @.view_time(s.finished_at) AS finished_at
	FROM @.sessions s;
CREATE OR REPLACE VIEW @.view_deliveries AS SELECT d.id, d.webhook_id, @.view_name(w.settings) AS webhook, NULLIF(d.session_id, '00000000-0000-0000-0000-000000000000') AS session_id,
	NULLIF(d.content_id, '00000000-0000-0000-0000-000000000000') AS content_id, d.visitor AS poltio_user_id,
	@.view_kind(d.kind) AS kind, @.view_status(d.status) AS status, @.view_time(d.created_at) AS created_at, @.view_time(d.due_at) AS due_at,
	@.view_time(d.next_at) AS next_attempt_at, @.view_time(d.frozen_at) AS frozen_at, @.view_time(d.finished_at) AS finished_at,
	d.attempts AS attempts_made, NULLIF(d.last_status, 0) AS last_status, NULLIF(d.last_error, '') AS last_error, d.late_events,
	@.view_json(p.body) AS payload, @.view_text(p.body) AS payload_text
	FROM @.deliveries d LEFT JOIN @.webhooks w ON w.id = d.webhook_id LEFT JOIN @.payloads p ON p.delivery_id = d.id;
CREATE OR REPLACE VIEW @.view_attempts AS SELECT a.delivery_id, a.n, d.webhook_id, @.view_name(w.settings) AS webhook, NULLIF(d.session_id, '00000000-0000-0000-0000-000000000000') AS session_id,
	@.view_time(a.started_at) AS started_at, a.duration / 1000000.0 AS duration_ms, NULLIF(a.status, 0) AS status, NULLIF(a.error, '') AS error
	FROM @.attempts a JOIN @.deliveries d ON d.id = a.delivery_id LEFT JOIN @.webhooks w ON w.id = d.webhook_id;
CREATE OR REPLACE VIEW @.view_waiting AS SELECT q.webhook_id, @.view_name(w.settings) AS webhook, q.class = 1 AS test, @.view_time(q.at) AS next_attempt_at,
	@.view_time(q.at) <= now() AS due, q.delivery_id, NULLIF(d.session_id, '00000000-0000-0000-0000-000000000000') AS session_id,
	@.view_kind(d.kind) AS kind, @.view_status(d.status) AS status, d.attempts AS attempts_made, NULLIF(d.last_status, 0) AS last_status,
	NULLIF(d.last_error, '') AS last_error
	FROM @.queue q JOIN @.deliveries d ON d.id = q.delivery_id LEFT JOIN @.webhooks w ON w.id = q.webhook_id;
`

// escapedNUL are the arguments of regexp_replace that find \u0000 in JSON, where its backslash is not itself escaped, and put \ufffd in its place.
const escapedNUL = `E'(?<!\\\\)((\\\\\\\\)*)\\\\u0000', E'\\1\\ufffd', 'g'`
