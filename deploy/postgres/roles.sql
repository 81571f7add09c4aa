-- Who may do what in the domain database. Run it there, as a superuser (or as the database's owner with CREATEROLE):
--
--     psql "$ADMIN_URL" -v ON_ERROR_STOP=1 -1 -f deploy/postgres/roles.sql
--
-- Running it again changes nothing; do so after `signal-pipeline db upgrade` on a database that was made without it.
-- The database must be the pipeline's own: every table in its schema `public` is given to the owner.
--
-- Three roles that nobody logs in as; what they may do stands below. People and programs get logins of their own
-- (how they prove who they are, a password or a certificate, is your server's business and stands in no file here):
--
--     CREATE ROLE pipeline_migrator LOGIN IN ROLE signal_pipeline_owner;
--     ALTER ROLE pipeline_migrator SET role = signal_pipeline_owner;       -- what it makes belongs to the owner
--     CREATE ROLE pipeline_host_1 LOGIN IN ROLE signal_pipeline_worker;
--     CREATE ROLE grafana LOGIN IN ROLE signal_pipeline_reader;
--
-- Dagster keeps its runs and events in a database of its own, whose tables it makes and migrates itself. That login
-- therefore owns that database, and has no part in this one:
--
--     CREATE ROLE dagster LOGIN;
--     CREATE DATABASE dagster OWNER dagster;

DO $$
DECLARE
    wanted text;
    object record;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['signal_pipeline_owner', 'signal_pipeline_worker', 'signal_pipeline_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE', wanted);
        END IF;
    END LOOP;

    -- Without a temporary table no COPY of features: the worker may make them, in its own session only.
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT, CREATE, TEMPORARY ON DATABASE %I TO signal_pipeline_owner', current_database());
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO signal_pipeline_worker', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO signal_pipeline_reader', current_database());

    -- A sequence of an identity column follows its table, and cannot be given away by itself.
    FOR object IN
        SELECT c.oid::regclass AS name, CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
               WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind
        FROM pg_class AS c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
          AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype IN ('a', 'i', 'e'))
    LOOP
        EXECUTE format('ALTER %s %s OWNER TO signal_pipeline_owner', object.kind, object.name);
    END LOOP;
    FOR object IN
        SELECT p.oid::regprocedure AS name FROM pg_proc AS p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'signal\_pipeline\_%'
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO signal_pipeline_owner', object.name);
    END LOOP;
END $$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO signal_pipeline_owner;
GRANT USAGE ON SCHEMA public TO signal_pipeline_worker, signal_pipeline_reader;

-- The worker changes rows: no TRUNCATE, which no trigger and no foreign key would see; no REFERENCES, no TRIGGER.
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO signal_pipeline_worker;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO signal_pipeline_worker;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO signal_pipeline_reader;

-- What later migrations make.
ALTER DEFAULT PRIVILEGES FOR ROLE signal_pipeline_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO signal_pipeline_worker;
ALTER DEFAULT PRIVILEGES FOR ROLE signal_pipeline_owner IN SCHEMA public
    GRANT USAGE ON SEQUENCES TO signal_pipeline_worker;
ALTER DEFAULT PRIVILEGES FOR ROLE signal_pipeline_owner IN SCHEMA public
    GRANT SELECT ON TABLES TO signal_pipeline_reader;

-- Where the database stands is the owner's to write; on a new database it is there after the first migration.
DO $$ BEGIN
    IF to_regclass('public.signal_pipeline_alembic_version') IS NOT NULL THEN
        REVOKE INSERT, UPDATE, DELETE ON public.signal_pipeline_alembic_version FROM signal_pipeline_worker;
    END IF;
END $$;
