PRAGMA application_id = 1717854819;
BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
CREATE TABLE adapters (
        name TEXT PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('policy', 'reward')),
        parent TEXT,
        cycle_id INTEGER REFERENCES cycles (id),
        state TEXT NOT NULL CHECK (state IN ('candidate', 'published', 'rejected')),
        metrics TEXT NOT NULL,
        created_at TEXT NOT NULL
    , tainted_at TEXT) STRICT;
CREATE TABLE audit (
        id INTEGER PRIMARY KEY,
        at TEXT NOT NULL,
        action TEXT NOT NULL,
        detail TEXT NOT NULL
    ) STRICT;
CREATE TABLE bookkeeping (name TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
CREATE TABLE candidates (
        id TEXT PRIMARY KEY,
        prompt_message_id TEXT NOT NULL REFERENCES messages (id),
        rater_id TEXT NOT NULL REFERENCES raters (id),
        created_at TEXT NOT NULL
    , gold TEXT) STRICT;
CREATE TABLE choices (
        id TEXT PRIMARY KEY,
        candidates_id TEXT NOT NULL REFERENCES candidates (id),
        rater_id TEXT NOT NULL REFERENCES raters (id),
        choice TEXT NOT NULL CHECK (choice IN ('a', 'b', 'tie', 'both_bad')),
        strength REAL,
        seconds REAL,
        idempotency_key TEXT NOT NULL,
        created_at TEXT NOT NULL,
        superseded_at TEXT, prompt_hash TEXT,
        UNIQUE (rater_id, idempotency_key)
    ) STRICT;
CREATE TABLE conversations (
        id TEXT PRIMARY KEY,
        rater_id TEXT NOT NULL REFERENCES raters (id),
        title TEXT NOT NULL,
        created_at TEXT NOT NULL
    ) STRICT;
CREATE TABLE cycles (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        state TEXT NOT NULL
            CHECK (state IN ('running', 'promoted', 'rejected', 'refused', 'failed')),
        stage TEXT NOT NULL,
        progress REAL NOT NULL CHECK (progress BETWEEN 0 AND 1),
        adapter TEXT,
        reasons TEXT NOT NULL,
        metrics TEXT NOT NULL,
        config TEXT NOT NULL,
        pid INTEGER NOT NULL,
        process TEXT,
        started_at TEXT NOT NULL,
        finished_at TEXT
    ) STRICT;
CREATE TABLE demonstrations (
        id TEXT PRIMARY KEY,
        rater_id TEXT NOT NULL REFERENCES raters (id),
        message_id TEXT REFERENCES messages (id),
        prompt TEXT NOT NULL,
        content TEXT NOT NULL,
        idempotency_key TEXT NOT NULL,
        created_at TEXT NOT NULL,
        superseded_at TEXT, prompt_hash TEXT, text_hash TEXT NOT NULL DEFAULT '',
        UNIQUE (rater_id, idempotency_key)
    ) STRICT;
CREATE TABLE messages (
        id TEXT PRIMARY KEY,
        conversation_id TEXT NOT NULL REFERENCES conversations (id),
        parent_id TEXT REFERENCES messages (id),
        role TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant')),
        content TEXT NOT NULL,
        adapter TEXT,
        sampling TEXT,
        seed INTEGER,
        finish_reason TEXT CHECK (finish_reason IN ('stop', 'length', 'cancelled', 'error')),
        candidates_id TEXT REFERENCES candidates (id),
        label TEXT,
        created_at TEXT NOT NULL
    , path_hash TEXT NOT NULL DEFAULT '', text_hash TEXT NOT NULL DEFAULT '', held_out INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE rankings (
        id TEXT PRIMARY KEY,
        candidates_id TEXT NOT NULL REFERENCES candidates (id),
        rater_id TEXT NOT NULL REFERENCES raters (id),
        "order" TEXT NOT NULL,
        idempotency_key TEXT NOT NULL,
        created_at TEXT NOT NULL,
        superseded_at TEXT, prompt_hash TEXT,
        UNIQUE (rater_id, idempotency_key)
    ) STRICT;
CREATE TABLE raters (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('person', 'simulated', 'operator')),
        consent TEXT,
        created_at TEXT NOT NULL
    , held_out INTEGER NOT NULL DEFAULT 0, reliability REAL NOT NULL DEFAULT 1, quarantined_at TEXT) STRICT;
CREATE TABLE serving (
        id INTEGER PRIMARY KEY,
        adapter TEXT NOT NULL REFERENCES adapters (name),
        previous TEXT REFERENCES adapters (name),
        since TEXT NOT NULL,
        "by" TEXT NOT NULL
    ) STRICT;
CREATE TABLE thumbs (
        id TEXT PRIMARY KEY,
        message_id TEXT NOT NULL REFERENCES messages (id),
        rater_id TEXT NOT NULL REFERENCES raters (id),
        value INTEGER NOT NULL CHECK (value IN (-1, 0, 1)),
        tags TEXT NOT NULL,
        comment TEXT NOT NULL,
        idempotency_key TEXT NOT NULL,
        created_at TEXT NOT NULL,
        superseded_at TEXT, prompt_hash TEXT,
        UNIQUE (rater_id, idempotency_key)
    ) STRICT;
CREATE TABLE retries (
        id TEXT PRIMARY KEY,
        message_id TEXT NOT NULL REFERENCES messages (id),
        retry_of TEXT NOT NULL REFERENCES messages (id),
        rater_id TEXT NOT NULL REFERENCES raters (id),
        idempotency_key TEXT NOT NULL,
        created_at TEXT NOT NULL,
        superseded_at TEXT,
        prompt_hash TEXT,
        UNIQUE (rater_id, idempotency_key)
    ) STRICT;
CREATE TABLE stale_prompts (
        rater_id TEXT NOT NULL,
        prompt_hash TEXT NOT NULL,
        PRIMARY KEY (rater_id, prompt_hash)
    ) STRICT, WITHOUT ROWID;
CREATE TABLE comparisons (
        id TEXT NOT NULL UNIQUE,
        rater_id TEXT NOT NULL REFERENCES raters (id),
        prompt_hash TEXT NOT NULL,
        prompt_id TEXT NOT NULL,
        a TEXT NOT NULL,
        b TEXT NOT NULL,
        label TEXT NOT NULL CHECK (label IN ('a', 'b', 'tie')),
        source TEXT NOT NULL
            CHECK (source IN ('choice', 'ranking', 'edit', 'thumbs', 'retry')),
        weight REAL NOT NULL CHECK (weight > 0),
        strength REAL,
        split TEXT NOT NULL CHECK (split IN ('train', 'held_out', 'held_out_raters')),
        event_ids TEXT NOT NULL,
        created_at TEXT NOT NULL,
        withdrawn_at TEXT,
        PRIMARY KEY (rater_id, prompt_hash, id)
    ) STRICT, WITHOUT ROWID;
CREATE TABLE cycle_comparisons (
        cycle_id INTEGER NOT NULL REFERENCES cycles (id),
        comparison_id TEXT NOT NULL REFERENCES comparisons (id) ON DELETE CASCADE,
        PRIMARY KEY (cycle_id, comparison_id)
    ) STRICT, WITHOUT ROWID;
CREATE TABLE unpaired (
        id TEXT NOT NULL UNIQUE,
        rater_id TEXT NOT NULL REFERENCES raters (id),
        prompt_hash TEXT NOT NULL,
        prompt_id TEXT NOT NULL,
        message_id TEXT NOT NULL,
        good INTEGER NOT NULL CHECK (good IN (0, 1)),
        source TEXT NOT NULL CHECK (source IN ('thumb', 'both_bad')),
        weight REAL NOT NULL CHECK (weight > 0),
        split TEXT NOT NULL CHECK (split IN ('train', 'held_out', 'held_out_raters')),
        event_id TEXT NOT NULL,
        created_at TEXT NOT NULL,
        PRIMARY KEY (rater_id, prompt_hash, id)
    ) STRICT, WITHOUT ROWID;
CREATE TABLE forgotten (
        rater TEXT PRIMARY KEY,
        rater_id TEXT,
        since TEXT NOT NULL,
        begun_at TEXT NOT NULL,
        "rows" TEXT NOT NULL DEFAULT '{}',
        adapters TEXT NOT NULL DEFAULT '[]',
        done_at TEXT
    ) STRICT, WITHOUT ROWID;
CREATE TABLE searchable (
        number INTEGER PRIMARY KEY,
        message_id TEXT NOT NULL UNIQUE REFERENCES messages (id)
    ) STRICT;
CREATE VIRTUAL TABLE message_search USING fts5 (
        content, content = 'searched', content_rowid = 'number',
        tokenize = 'unicode61 remove_diacritics 2');
CREATE TABLE taught (
            rater_id TEXT NOT NULL REFERENCES raters (id),
            adapter TEXT NOT NULL REFERENCES adapters (name),
            PRIMARY KEY (rater_id, adapter)
        ) STRICT, WITHOUT ROWID;
INSERT INTO "_sqlite_migrations" VALUES(1,'feedback_store','0001_first_schema','2026-11-21 10:00:49.430037+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'feedback_store','0002_hashes_and_unpaired','2026-11-26 00:17:10.794161+00:00');
INSERT INTO "_sqlite_migrations" VALUES(3,'feedback_store','0003_search','2026-11-26 00:17:10.795508+00:00');
INSERT INTO "_sqlite_migrations" VALUES(4,'feedback_store','0004_rater_weights','2026-11-26 00:17:10.795853+00:00');
INSERT INTO "_sqlite_migrations" VALUES(5,'feedback_store','0005_sums_by_key','2026-11-26 00:17:10.796049+00:00');
INSERT INTO "_sqlite_migrations" VALUES(6,'feedback_store','0006_taught','2026-11-26 00:17:10.796226+00:00');
INSERT INTO "adapters" VALUES('policy-000000','policy',NULL,NULL,'published','{}','2026-11-21T10:00:49.429Z',NULL);
INSERT INTO "bookkeeping" VALUES('derivation',3);
INSERT INTO "candidates" VALUES('01a1fd8d-2a19-7fa8-b9ef-bd1e7d9a742c','01a1fd8d-2a19-76e9-a08d-195205d73cca','bob','2026-11-21T10:00:49.434Z',NULL);
INSERT INTO "candidates" VALUES('01a1fd8d-2a1e-751e-a003-ef918973fa93','01a1fd8d-2a1b-75ce-aef5-d2c82fd71bd4','bob','2026-11-21T10:00:49.438Z',NULL);
INSERT INTO "candidates" VALUES('01a1fd8d-2a20-783c-b37f-c6c16578070a','01a1fd8d-2a1f-7ff9-8cd4-f29d79315524','ann','2026-11-21T10:00:49.440Z',NULL);
INSERT INTO "candidates" VALUES('01a1fd8d-2a24-7d59-80e7-705c5bb5ad2d','01a1fd8d-2a21-7afc-b6f5-269db4da3112','ann','2026-11-21T10:00:49.444Z',NULL);
INSERT INTO "candidates" VALUES('01a1fd8d-2a27-73a7-a05c-1a8443392104','01a1fd8d-2a26-7b63-bb15-b381665567a8','bob','2026-11-21T10:00:49.447Z',NULL);
INSERT INTO "candidates" VALUES('01a1fd8d-2a2f-7749-8c02-b5320c3b8725','01a1fd8d-2a28-775c-93bf-84953a0c0141','bob','2026-11-21T10:00:49.455Z',NULL);
INSERT INTO "candidates" VALUES('01a1fd8d-2a31-7d17-b6d1-b55c81365260','01a1fd8d-2a31-730f-b9f2-e5f5aa1df068','ann','2026-11-21T10:00:49.457Z',NULL);
INSERT INTO "candidates" VALUES('01a1fd8d-2a36-7698-b32a-fc7aad0eea80','01a1fd8d-2a33-751c-8d57-0bce28e49381','ann','2026-11-21T10:00:49.462Z',NULL);
INSERT INTO "candidates" VALUES('01a1fd8d-2a3b-7c4e-b0a9-6bd6c85e3d71','01a1fd8d-2a3b-74e7-90cd-b7e6581919b2','bob','2026-11-21T10:00:49.467Z',NULL);
INSERT INTO "candidates" VALUES('01a1fd8d-2a40-7b78-90af-6dc4346ce8cf','01a1fd8d-2a3d-7862-8ee0-cc1e67a83acf','bob','2026-11-21T10:00:49.472Z',NULL);
INSERT INTO "candidates" VALUES('01a1fd8d-2a43-739c-80ca-a1c463eb80ed','01a1fd8d-2a42-7bd7-a0f2-31348e44f003','ann','2026-11-21T10:00:49.475Z',NULL);
INSERT INTO "candidates" VALUES('01a1fd8d-2a47-7a25-9ba3-c1c3220b2186','01a1fd8d-2a44-75f9-9e49-53588bce1a5d','ann','2026-11-21T10:00:49.479Z',NULL);
INSERT INTO "choices" VALUES('01a1fd8d-2a1a-7ee9-a080-e26fdb90ddd3','01a1fd8d-2a19-7fa8-b9ef-bd1e7d9a742c','bob','b',NULL,NULL,'key-0','2026-11-21T10:00:49.434Z',NULL,'143c47e619a68fa5267c09c51e8a6ecd');
INSERT INTO "choices" VALUES('01a1fd8d-2a21-742e-9d28-ee415b3f6480','01a1fd8d-2a20-783c-b37f-c6c16578070a','ann','tie',NULL,NULL,'key-5','2026-11-21T10:00:49.441Z',NULL,'c805e7d36cbbee4c7a43a3aa518dfaf1');
INSERT INTO "choices" VALUES('01a1fd8d-2a27-7fc2-8caf-49ee56beaac8','01a1fd8d-2a27-73a7-a05c-1a8443392104','bob','both_bad',NULL,NULL,'key-10','2026-11-21T10:00:49.448Z',NULL,'9f2e43179b727c3a33ec0847cd0a2677');
INSERT INTO "choices" VALUES('01a1fd8d-2a32-7c43-aea3-312f2f3a15d4','01a1fd8d-2a31-7d17-b6d1-b55c81365260','ann','a',NULL,NULL,'key-15','2026-11-21T10:00:49.458Z',NULL,'9eb6e4a3ba9ee590cea8b8b5f9b4d96c');
INSERT INTO "choices" VALUES('01a1fd8d-2a3c-76fa-8c2c-e85926955257','01a1fd8d-2a3b-7c4e-b0a9-6bd6c85e3d71','bob','b',NULL,NULL,'key-20','2026-11-21T10:00:49.468Z','2026-11-21T10:00:49.468Z','d5b7445074d7b6e740e1364fe45c8a72');
INSERT INTO "choices" VALUES('01a1fd8d-2a3c-7ec7-92f4-e76f8da49473','01a1fd8d-2a3b-7c4e-b0a9-6bd6c85e3d71','bob','a',NULL,NULL,'key-21','2026-11-21T10:00:49.468Z',NULL,'d5b7445074d7b6e740e1364fe45c8a72');
INSERT INTO "choices" VALUES('01a1fd8d-2a43-7eb0-82c7-5004dd5e8d09','01a1fd8d-2a43-739c-80ca-a1c463eb80ed','ann','b',NULL,NULL,'key-26','2026-11-21T10:00:49.475Z',NULL,'23a7e4318638fca714a08a3aed1bd173');
INSERT INTO "conversations" VALUES('01a1fd8d-2a18-7f82-8481-f7efdc99fa6f','bob','chat 0','2026-11-21T10:00:49.432Z');
INSERT INTO "conversations" VALUES('01a1fd8d-2a1f-7af2-b6b4-0118ac2ca1b8','ann','chat 1','2026-11-21T10:00:49.439Z');
INSERT INTO "conversations" VALUES('01a1fd8d-2a26-748f-98fb-c070e30722e0','bob','chat 2','2026-11-21T10:00:49.446Z');
INSERT INTO "conversations" VALUES('01a1fd8d-2a30-7c0d-94b3-beb4d16f6f45','ann','chat 3','2026-11-21T10:00:49.456Z');
INSERT INTO "conversations" VALUES('01a1fd8d-2a3a-7dda-9d48-ab8f844268b4','bob','chat 4','2026-11-21T10:00:49.466Z');
INSERT INTO "conversations" VALUES('01a1fd8d-2a42-7512-8aec-fe65d63275a0','ann','chat 5','2026-11-21T10:00:49.474Z');
INSERT INTO "cycles" VALUES(1,'rejected','done',1.0,NULL,'["no better"]','{}','{"seed": 0}',4595,'789d7d90-23ae-4584-b033-6ca2ae7db8bc/140348','2026-11-21T10:00:49.485Z','2026-11-21T10:00:49.488Z');
INSERT INTO "demonstrations" VALUES('01a1fd8d-2a1d-7d1b-ae9c-014b82921eb2','bob','01a1fd8d-2a1c-744b-b9b8-ff46d94577f2','[{"role": "user", "content": "What is 0 plus 0?"}, {"role": "assistant", "content": "0"}, {"role": "user", "content": "Say hi"}]','Hello!','key-3','2026-11-21T10:00:49.437Z',NULL,'53578554a713ca9faa05fd64aeed9c93','334d016f755cd6dc58c53a86e183882f');
INSERT INTO "demonstrations" VALUES('01a1fd8d-2a24-7607-bcd9-71d8142598f7','ann','01a1fd8d-2a22-7bf6-89d7-d15207c5a871','[{"role": "user", "content": "What is 1 plus 1?"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "Say hi"}]','Hello!','key-8','2026-11-21T10:00:49.444Z',NULL,'7d510e04ba11dfaf9b5e7d927d1b88b4','334d016f755cd6dc58c53a86e183882f');
INSERT INTO "demonstrations" VALUES('01a1fd8d-2a2e-7e78-a0c9-d6a31f98f8a6','bob','01a1fd8d-2a29-77cc-a550-6a6a8387883b','[{"role": "user", "content": "What is 2 plus 2?"}, {"role": "assistant", "content": "4"}, {"role": "user", "content": "Say hi"}]','Hello!','key-13','2026-11-21T10:00:49.454Z',NULL,'08774dd10f75e85364e71643634036cf','334d016f755cd6dc58c53a86e183882f');
INSERT INTO "demonstrations" VALUES('01a1fd8d-2a35-7e11-83be-5b1fb80862e0','ann','01a1fd8d-2a34-74bb-b899-e22d5951e0db','[{"role": "user", "content": "What is 3 plus 3?"}, {"role": "assistant", "content": "6"}, {"role": "user", "content": "Say hi"}]','Hello!','key-18','2026-11-21T10:00:49.461Z',NULL,'f6102595188b103adfc3be669591563d','334d016f755cd6dc58c53a86e183882f');
INSERT INTO "demonstrations" VALUES('01a1fd8d-2a40-73f8-a4e6-7123a44da599','bob','01a1fd8d-2a3e-791f-b40f-4a11c6efc27f','[{"role": "user", "content": "What is 4 plus 4?"}, {"role": "assistant", "content": "8"}, {"role": "user", "content": "Say hi"}]','Hello!','key-24','2026-11-21T10:00:49.472Z',NULL,'4a403c4433264c80a0dfdb6ccc937ce5','334d016f755cd6dc58c53a86e183882f');
INSERT INTO "demonstrations" VALUES('01a1fd8d-2a47-72a0-8249-c503868d3c20','ann','01a1fd8d-2a45-77f8-9484-f9bdd5a10141','[{"role": "user", "content": "What is 5 plus 5?"}, {"role": "assistant", "content": "10"}, {"role": "user", "content": "Say hi"}]','Hello!','key-29','2026-11-21T10:00:49.479Z',NULL,'35a6636af3fde2fccee33b5064268784','334d016f755cd6dc58c53a86e183882f');
INSERT INTO "demonstrations" VALUES('01a1fd8d-2a49-7059-abd5-26395899b059','ann',NULL,'[{"role": "user", "content": "Capital of France?"}]','Paris','key-31','2026-11-21T10:00:49.481Z',NULL,'42c1726391110be459f93847c95355f5','5dd272b4f316b776a7b8e3d0894b37e1');
INSERT INTO "messages" VALUES('01a1fd8d-2a19-76e9-a08d-195205d73cca','01a1fd8d-2a18-7f82-8481-f7efdc99fa6f',NULL,'user','What is 0 plus 0?',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.433Z','143c47e619a68fa5267c09c51e8a6ecd','27eba4291fe8eac8ccb99f51d9d53b84',1);
INSERT INTO "messages" VALUES('01a1fd8d-2a1a-7174-9ad2-8c135a61240a','01a1fd8d-2a18-7f82-8481-f7efdc99fa6f','01a1fd8d-2a19-76e9-a08d-195205d73cca','assistant','one','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a19-7fa8-b9ef-bd1e7d9a742c','a','2026-11-21T10:00:49.434Z','87118f5425708b2bdc645b6c67026c84','7692c3ad3540bb803c020b3aee66cd88',1);
INSERT INTO "messages" VALUES('01a1fd8d-2a1a-7374-81be-a37515c740c5','01a1fd8d-2a18-7f82-8481-f7efdc99fa6f','01a1fd8d-2a19-76e9-a08d-195205d73cca','assistant','0','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a19-7fa8-b9ef-bd1e7d9a742c','b','2026-11-21T10:00:49.434Z','6b25ca3c0e8b2759e72504f813483462','5feceb66ffc86f38d952786c6d696c79',1);
INSERT INTO "messages" VALUES('01a1fd8d-2a1b-75ce-aef5-d2c82fd71bd4','01a1fd8d-2a18-7f82-8481-f7efdc99fa6f','01a1fd8d-2a1a-7374-81be-a37515c740c5','user','Say hi',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.435Z','53578554a713ca9faa05fd64aeed9c93','71d5b298ee9f050ce4ae9a5ec072511e',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a1b-7e77-a416-69bbb2b1b207','01a1fd8d-2a18-7f82-8481-f7efdc99fa6f','01a1fd8d-2a1b-75ce-aef5-d2c82fd71bd4','assistant','hi','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.435Z','58dd6ca0405ee7d74bd0e8a16a1fd8ba','8f434346648f6b96df89dda901c5176b',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a1c-744b-b9b8-ff46d94577f2','01a1fd8d-2a18-7f82-8481-f7efdc99fa6f','01a1fd8d-2a1b-75ce-aef5-d2c82fd71bd4','assistant','no','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.436Z','eb4469225dde5e2c24cae81b16bf47c3','9390298f3fb0c5b160498935d79cb139',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a1e-767a-8b7e-97aa51c639c3','01a1fd8d-2a18-7f82-8481-f7efdc99fa6f','01a1fd8d-2a1b-75ce-aef5-d2c82fd71bd4','assistant','x',NULL,NULL,NULL,NULL,'01a1fd8d-2a1e-751e-a003-ef918973fa93','a','2026-11-21T10:00:49.438Z','9e9daa83795cb4a63be5cfcb1960a250','2d711642b726b04401627ca9fbac32f5',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a1e-78a6-bf72-1aa22f5c6d56','01a1fd8d-2a18-7f82-8481-f7efdc99fa6f','01a1fd8d-2a1b-75ce-aef5-d2c82fd71bd4','assistant','y',NULL,NULL,NULL,NULL,'01a1fd8d-2a1e-751e-a003-ef918973fa93','b','2026-11-21T10:00:49.438Z','bf10a1029fbf1825bf7d8f9f878430d2','a1fce4363854ff888cff4b8e7875d600',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a1e-79b1-9bd3-456b69c01884','01a1fd8d-2a18-7f82-8481-f7efdc99fa6f','01a1fd8d-2a1b-75ce-aef5-d2c82fd71bd4','assistant','z',NULL,NULL,NULL,NULL,'01a1fd8d-2a1e-751e-a003-ef918973fa93','c','2026-11-21T10:00:49.438Z','69a576cfd8152fd92526e5d75f568047','594e519ae499312b29433b7dd8a97ff0',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a1f-7ff9-8cd4-f29d79315524','01a1fd8d-2a1f-7af2-b6b4-0118ac2ca1b8',NULL,'user','What is 1 plus 1?',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.440Z','c805e7d36cbbee4c7a43a3aa518dfaf1','910c2ea026165cb2be78da89a6b4cda5',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a20-7978-8290-8729466c6147','01a1fd8d-2a1f-7af2-b6b4-0118ac2ca1b8','01a1fd8d-2a1f-7ff9-8cd4-f29d79315524','assistant','one','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a20-783c-b37f-c6c16578070a','a','2026-11-21T10:00:49.440Z','7ae6283ac37a04f4bb18dced1514a700','7692c3ad3540bb803c020b3aee66cd88',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a20-7aa8-a3be-8c655ddc4cac','01a1fd8d-2a1f-7af2-b6b4-0118ac2ca1b8','01a1fd8d-2a1f-7ff9-8cd4-f29d79315524','assistant','2','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a20-783c-b37f-c6c16578070a','b','2026-11-21T10:00:49.440Z','2a1866c5098a5493ef4f64970e304544','d4735e3a265e16eee03f59718b9b5d03',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a21-7afc-b6f5-269db4da3112','01a1fd8d-2a1f-7af2-b6b4-0118ac2ca1b8','01a1fd8d-2a20-7aa8-a3be-8c655ddc4cac','user','Say hi',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.441Z','7d510e04ba11dfaf9b5e7d927d1b88b4','71d5b298ee9f050ce4ae9a5ec072511e',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a22-7443-af8a-344cf9f3e17a','01a1fd8d-2a1f-7af2-b6b4-0118ac2ca1b8','01a1fd8d-2a21-7afc-b6f5-269db4da3112','assistant','hi','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.442Z','773aa154f6a34a0579af7cbcb17661e1','8f434346648f6b96df89dda901c5176b',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a22-7bf6-89d7-d15207c5a871','01a1fd8d-2a1f-7af2-b6b4-0118ac2ca1b8','01a1fd8d-2a21-7afc-b6f5-269db4da3112','assistant','no','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.442Z','7f48a86f1c110db01c5f373d9eeae63a','9390298f3fb0c5b160498935d79cb139',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a24-7ea0-83ac-7543d8c1d6a4','01a1fd8d-2a1f-7af2-b6b4-0118ac2ca1b8','01a1fd8d-2a21-7afc-b6f5-269db4da3112','assistant','x',NULL,NULL,NULL,NULL,'01a1fd8d-2a24-7d59-80e7-705c5bb5ad2d','a','2026-11-21T10:00:49.444Z','ddb8818f42f0b116ab86ddeff8aa5710','2d711642b726b04401627ca9fbac32f5',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a24-7ff6-913a-5cbdcb1f6b2f','01a1fd8d-2a1f-7af2-b6b4-0118ac2ca1b8','01a1fd8d-2a21-7afc-b6f5-269db4da3112','assistant','y',NULL,NULL,NULL,NULL,'01a1fd8d-2a24-7d59-80e7-705c5bb5ad2d','b','2026-11-21T10:00:49.445Z','bec813af1f4786e1577996f69e034b04','a1fce4363854ff888cff4b8e7875d600',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a25-70d3-8676-04f695aa223b','01a1fd8d-2a1f-7af2-b6b4-0118ac2ca1b8','01a1fd8d-2a21-7afc-b6f5-269db4da3112','assistant','z',NULL,NULL,NULL,NULL,'01a1fd8d-2a24-7d59-80e7-705c5bb5ad2d','c','2026-11-21T10:00:49.445Z','c24a93e2cae00ee889aceefc54aa79e3','594e519ae499312b29433b7dd8a97ff0',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a26-7b63-bb15-b381665567a8','01a1fd8d-2a26-748f-98fb-c070e30722e0',NULL,'user','What is 2 plus 2?',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.446Z','9f2e43179b727c3a33ec0847cd0a2677','6df9f9603133084d5e168d94c6104f0a',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a27-74de-80b1-ffa8b54054a5','01a1fd8d-2a26-748f-98fb-c070e30722e0','01a1fd8d-2a26-7b63-bb15-b381665567a8','assistant','one','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a27-73a7-a05c-1a8443392104','a','2026-11-21T10:00:49.447Z','265d6458bff9b67412fc65c88032c2f3','7692c3ad3540bb803c020b3aee66cd88',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a27-7649-a89c-0755599e4b9b','01a1fd8d-2a26-748f-98fb-c070e30722e0','01a1fd8d-2a26-7b63-bb15-b381665567a8','assistant','4','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a27-73a7-a05c-1a8443392104','b','2026-11-21T10:00:49.447Z','4801acab04c4708ef9b3cd8ab659cd94','4b227777d4dd1fc61c6f884f48641d02',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a28-775c-93bf-84953a0c0141','01a1fd8d-2a26-748f-98fb-c070e30722e0','01a1fd8d-2a27-7649-a89c-0755599e4b9b','user','Say hi',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.448Z','08774dd10f75e85364e71643634036cf','71d5b298ee9f050ce4ae9a5ec072511e',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a28-7ece-8e40-c705b7dfb3d9','01a1fd8d-2a26-748f-98fb-c070e30722e0','01a1fd8d-2a28-775c-93bf-84953a0c0141','assistant','hi','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.448Z','f6a8c6377a8d2915f751d85a94b4e199','8f434346648f6b96df89dda901c5176b',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a29-77cc-a550-6a6a8387883b','01a1fd8d-2a26-748f-98fb-c070e30722e0','01a1fd8d-2a28-775c-93bf-84953a0c0141','assistant','no','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.449Z','481259a3dd13d1ba26ce5ce5187ece51','9390298f3fb0c5b160498935d79cb139',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a2f-7894-ad69-17b43cc66c5d','01a1fd8d-2a26-748f-98fb-c070e30722e0','01a1fd8d-2a28-775c-93bf-84953a0c0141','assistant','x',NULL,NULL,NULL,NULL,'01a1fd8d-2a2f-7749-8c02-b5320c3b8725','a','2026-11-21T10:00:49.455Z','9bfca63129190063b486350696c57a85','2d711642b726b04401627ca9fbac32f5',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a2f-79e2-8000-df916d705b5f','01a1fd8d-2a26-748f-98fb-c070e30722e0','01a1fd8d-2a28-775c-93bf-84953a0c0141','assistant','y',NULL,NULL,NULL,NULL,'01a1fd8d-2a2f-7749-8c02-b5320c3b8725','b','2026-11-21T10:00:49.455Z','934c13404c3332ef69c919083e8910d9','a1fce4363854ff888cff4b8e7875d600',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a2f-7ac9-a1a3-63df2238abc5','01a1fd8d-2a26-748f-98fb-c070e30722e0','01a1fd8d-2a28-775c-93bf-84953a0c0141','assistant','z',NULL,NULL,NULL,NULL,'01a1fd8d-2a2f-7749-8c02-b5320c3b8725','c','2026-11-21T10:00:49.455Z','744de3e91c98ea202120eda10441599b','594e519ae499312b29433b7dd8a97ff0',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a31-730f-b9f2-e5f5aa1df068','01a1fd8d-2a30-7c0d-94b3-beb4d16f6f45',NULL,'user','What is 3 plus 3?',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.457Z','9eb6e4a3ba9ee590cea8b8b5f9b4d96c','d95077da10ff6729302d2c5ab4580257',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a31-7e59-8bbe-ab7c01f80a6a','01a1fd8d-2a30-7c0d-94b3-beb4d16f6f45','01a1fd8d-2a31-730f-b9f2-e5f5aa1df068','assistant','one','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a31-7d17-b6d1-b55c81365260','a','2026-11-21T10:00:49.457Z','39fb5da5363f93e071376c21e09f0626','7692c3ad3540bb803c020b3aee66cd88',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a31-7faa-8f4e-bee53f5143db','01a1fd8d-2a30-7c0d-94b3-beb4d16f6f45','01a1fd8d-2a31-730f-b9f2-e5f5aa1df068','assistant','6','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a31-7d17-b6d1-b55c81365260','b','2026-11-21T10:00:49.458Z','c939142ffba8a8de56ad09283a35bfe5','e7f6c011776e8db7cd330b54174fd76f',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a33-751c-8d57-0bce28e49381','01a1fd8d-2a30-7c0d-94b3-beb4d16f6f45','01a1fd8d-2a31-7faa-8f4e-bee53f5143db','user','Say hi',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.459Z','f6102595188b103adfc3be669591563d','71d5b298ee9f050ce4ae9a5ec072511e',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a33-7d2f-8b52-d308bd52975b','01a1fd8d-2a30-7c0d-94b3-beb4d16f6f45','01a1fd8d-2a33-751c-8d57-0bce28e49381','assistant','hi','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.459Z','f8fbf38e28401dc7ee68963ada2e0ba4','8f434346648f6b96df89dda901c5176b',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a34-74bb-b899-e22d5951e0db','01a1fd8d-2a30-7c0d-94b3-beb4d16f6f45','01a1fd8d-2a33-751c-8d57-0bce28e49381','assistant','no','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.460Z','e5bf77cfd28ea5b822235e6a657c98aa','9390298f3fb0c5b160498935d79cb139',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a36-7840-a641-136c6e72872f','01a1fd8d-2a30-7c0d-94b3-beb4d16f6f45','01a1fd8d-2a33-751c-8d57-0bce28e49381','assistant','x',NULL,NULL,NULL,NULL,'01a1fd8d-2a36-7698-b32a-fc7aad0eea80','a','2026-11-21T10:00:49.462Z','63cd4cdee1013e82cf086fface4a5e80','2d711642b726b04401627ca9fbac32f5',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a36-7987-98a9-61dae4d1f9f3','01a1fd8d-2a30-7c0d-94b3-beb4d16f6f45','01a1fd8d-2a33-751c-8d57-0bce28e49381','assistant','y',NULL,NULL,NULL,NULL,'01a1fd8d-2a36-7698-b32a-fc7aad0eea80','b','2026-11-21T10:00:49.462Z','375769a60dff605cc7297c62e53312c3','a1fce4363854ff888cff4b8e7875d600',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a36-7a76-88cf-c11a9d400e2a','01a1fd8d-2a30-7c0d-94b3-beb4d16f6f45','01a1fd8d-2a33-751c-8d57-0bce28e49381','assistant','z',NULL,NULL,NULL,NULL,'01a1fd8d-2a36-7698-b32a-fc7aad0eea80','c','2026-11-21T10:00:49.462Z','314f8a27e00037fae3f2d50cc4da5e31','594e519ae499312b29433b7dd8a97ff0',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a3b-74e7-90cd-b7e6581919b2','01a1fd8d-2a3a-7dda-9d48-ab8f844268b4',NULL,'user','What is 4 plus 4?',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.467Z','d5b7445074d7b6e740e1364fe45c8a72','f58061d74b221e9145b3bad667a1096e',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a3b-7d4a-a007-2b519b9d881c','01a1fd8d-2a3a-7dda-9d48-ab8f844268b4','01a1fd8d-2a3b-74e7-90cd-b7e6581919b2','assistant','one','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a3b-7c4e-b0a9-6bd6c85e3d71','a','2026-11-21T10:00:49.467Z','4e8c53e93746d49d64950983efc79c7a','7692c3ad3540bb803c020b3aee66cd88',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a3b-7e62-92d1-8e89861b8e6c','01a1fd8d-2a3a-7dda-9d48-ab8f844268b4','01a1fd8d-2a3b-74e7-90cd-b7e6581919b2','assistant','8','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a3b-7c4e-b0a9-6bd6c85e3d71','b','2026-11-21T10:00:49.467Z','98db062ceabdaacf1dab907e3fe79b06','2c624232cdd221771294dfbb310aca00',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a3d-7862-8ee0-cc1e67a83acf','01a1fd8d-2a3a-7dda-9d48-ab8f844268b4','01a1fd8d-2a3b-7e62-92d1-8e89861b8e6c','user','Say hi',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.469Z','4a403c4433264c80a0dfdb6ccc937ce5','71d5b298ee9f050ce4ae9a5ec072511e',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a3e-707b-a657-d5d1caf7b6ea','01a1fd8d-2a3a-7dda-9d48-ab8f844268b4','01a1fd8d-2a3d-7862-8ee0-cc1e67a83acf','assistant','hi','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.470Z','12b9318bce5c8a6e8674da5e5c651468','8f434346648f6b96df89dda901c5176b',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a3e-791f-b40f-4a11c6efc27f','01a1fd8d-2a3a-7dda-9d48-ab8f844268b4','01a1fd8d-2a3d-7862-8ee0-cc1e67a83acf','assistant','no','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.470Z','9ec26c95c78b50821b427839b4026772','9390298f3fb0c5b160498935d79cb139',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a40-7e1a-ab4f-dacc715101d2','01a1fd8d-2a3a-7dda-9d48-ab8f844268b4','01a1fd8d-2a3d-7862-8ee0-cc1e67a83acf','assistant','x',NULL,NULL,NULL,NULL,'01a1fd8d-2a40-7b78-90af-6dc4346ce8cf','a','2026-11-21T10:00:49.472Z','97cbd4a8a9e71aa7962a910caa7f2586','2d711642b726b04401627ca9fbac32f5',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a40-7f63-8788-184e88e5e4ef','01a1fd8d-2a3a-7dda-9d48-ab8f844268b4','01a1fd8d-2a3d-7862-8ee0-cc1e67a83acf','assistant','y',NULL,NULL,NULL,NULL,'01a1fd8d-2a40-7b78-90af-6dc4346ce8cf','b','2026-11-21T10:00:49.472Z','13d530bcad7f273a01a3386423c413f3','a1fce4363854ff888cff4b8e7875d600',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a41-7051-8ab2-f15392b8b4c6','01a1fd8d-2a3a-7dda-9d48-ab8f844268b4','01a1fd8d-2a3d-7862-8ee0-cc1e67a83acf','assistant','z',NULL,NULL,NULL,NULL,'01a1fd8d-2a40-7b78-90af-6dc4346ce8cf','c','2026-11-21T10:00:49.473Z','a6805e5bc4d1529214040316ff31ace5','594e519ae499312b29433b7dd8a97ff0',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a42-7bd7-a0f2-31348e44f003','01a1fd8d-2a42-7512-8aec-fe65d63275a0',NULL,'user','What is 5 plus 5?',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.474Z','23a7e4318638fca714a08a3aed1bd173','0f5e967b7bc3cb262688a51c3c51c446',1);
INSERT INTO "messages" VALUES('01a1fd8d-2a43-74c7-9b3d-440ad0d39f51','01a1fd8d-2a42-7512-8aec-fe65d63275a0','01a1fd8d-2a42-7bd7-a0f2-31348e44f003','assistant','one','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a43-739c-80ca-a1c463eb80ed','a','2026-11-21T10:00:49.475Z','18f2e753b05575f89fb794c0facbb219','7692c3ad3540bb803c020b3aee66cd88',1);
INSERT INTO "messages" VALUES('01a1fd8d-2a43-760c-ab8e-366310380988','01a1fd8d-2a42-7512-8aec-fe65d63275a0','01a1fd8d-2a42-7bd7-a0f2-31348e44f003','assistant','10','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a43-739c-80ca-a1c463eb80ed','b','2026-11-21T10:00:49.475Z','4d2a33a310d84f95eb5de3971bebd471','4a44dc15364204a80fe80e9039455cc1',1);
INSERT INTO "messages" VALUES('01a1fd8d-2a44-75f9-9e49-53588bce1a5d','01a1fd8d-2a42-7512-8aec-fe65d63275a0','01a1fd8d-2a43-760c-ab8e-366310380988','user','Say hi',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.476Z','35a6636af3fde2fccee33b5064268784','71d5b298ee9f050ce4ae9a5ec072511e',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a44-7f4f-8918-d8c455efa208','01a1fd8d-2a42-7512-8aec-fe65d63275a0','01a1fd8d-2a44-75f9-9e49-53588bce1a5d','assistant','hi','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.477Z','0b48e5aa6c5b89e0a6ee8839f4a861ed','8f434346648f6b96df89dda901c5176b',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a45-77f8-9484-f9bdd5a10141','01a1fd8d-2a42-7512-8aec-fe65d63275a0','01a1fd8d-2a44-75f9-9e49-53588bce1a5d','assistant','no','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.477Z','ea6660076b987877a49053ac8eb3d79e','9390298f3fb0c5b160498935d79cb139',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a47-7b26-8bbb-639392ca8461','01a1fd8d-2a42-7512-8aec-fe65d63275a0','01a1fd8d-2a44-75f9-9e49-53588bce1a5d','assistant','x',NULL,NULL,NULL,NULL,'01a1fd8d-2a47-7a25-9ba3-c1c3220b2186','a','2026-11-21T10:00:49.479Z','21d62dd3b4a874d8c76779b2756ad34e','2d711642b726b04401627ca9fbac32f5',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a47-7c5c-b6d9-c549064fa816','01a1fd8d-2a42-7512-8aec-fe65d63275a0','01a1fd8d-2a44-75f9-9e49-53588bce1a5d','assistant','y',NULL,NULL,NULL,NULL,'01a1fd8d-2a47-7a25-9ba3-c1c3220b2186','b','2026-11-21T10:00:49.479Z','42dae64844cd4fdbe9c31766d8f0882e','a1fce4363854ff888cff4b8e7875d600',0);
INSERT INTO "messages" VALUES('01a1fd8d-2a47-7d41-8b61-f7b7100966d4','01a1fd8d-2a42-7512-8aec-fe65d63275a0','01a1fd8d-2a44-75f9-9e49-53588bce1a5d','assistant','z',NULL,NULL,NULL,NULL,'01a1fd8d-2a47-7a25-9ba3-c1c3220b2186','c','2026-11-21T10:00:49.479Z','ffe35942f7eda74eee5fc9fbb715783e','594e519ae499312b29433b7dd8a97ff0',0);
INSERT INTO "rankings" VALUES('01a1fd8d-2a1f-72d9-b40c-79ac931fed23','01a1fd8d-2a1e-751e-a003-ef918973fa93','bob','[["b"], ["a", "c"]]','key-4','2026-11-21T10:00:49.439Z',NULL,'53578554a713ca9faa05fd64aeed9c93');
INSERT INTO "rankings" VALUES('01a1fd8d-2a25-7c0c-a8a7-91396a7166a5','01a1fd8d-2a24-7d59-80e7-705c5bb5ad2d','ann','[["b"], ["a", "c"]]','key-9','2026-11-21T10:00:49.445Z',NULL,'7d510e04ba11dfaf9b5e7d927d1b88b4');
INSERT INTO "rankings" VALUES('01a1fd8d-2a30-7490-be73-62cad6f8219d','01a1fd8d-2a2f-7749-8c02-b5320c3b8725','bob','[["b"], ["a", "c"]]','key-14','2026-11-21T10:00:49.456Z',NULL,'08774dd10f75e85364e71643634036cf');
INSERT INTO "rankings" VALUES('01a1fd8d-2a37-739d-a81c-3f8eaa12aaa7','01a1fd8d-2a36-7698-b32a-fc7aad0eea80','ann','[["b"], ["a", "c"]]','key-19','2026-11-21T10:00:49.463Z',NULL,'f6102595188b103adfc3be669591563d');
INSERT INTO "rankings" VALUES('01a1fd8d-2a41-7c25-acd1-d06806114d61','01a1fd8d-2a40-7b78-90af-6dc4346ce8cf','bob','[["b"], ["a", "c"]]','key-25','2026-11-21T10:00:49.473Z',NULL,'4a403c4433264c80a0dfdb6ccc937ce5');
INSERT INTO "rankings" VALUES('01a1fd8d-2a48-78c2-bf1d-e70404962ade','01a1fd8d-2a47-7a25-9ba3-c1c3220b2186','ann','[["b"], ["a", "c"]]','key-30','2026-11-21T10:00:49.480Z',NULL,'35a6636af3fde2fccee33b5064268784');
INSERT INTO "raters" VALUES('ann','person','v1','2026-11-21T10:00:49.432Z',0,1.0,NULL);
INSERT INTO "raters" VALUES('bob','person','v1','2026-11-21T10:00:49.432Z',0,1.0,NULL);
INSERT INTO "serving" VALUES(1,'policy-000000',NULL,'2026-11-21T10:00:49.429Z','installation');
INSERT INTO "thumbs" VALUES('01a1fd8d-2a1c-7b3d-b167-b42db8d9baba','01a1fd8d-2a1b-7e77-a416-69bbb2b1b207','bob',1,'["helpful"]','','key-1','2026-11-21T10:00:49.436Z',NULL,'53578554a713ca9faa05fd64aeed9c93');
INSERT INTO "thumbs" VALUES('01a1fd8d-2a1d-732c-a213-63cdd357c227','01a1fd8d-2a1c-744b-b9b8-ff46d94577f2','bob',-1,'[]','rude','key-2','2026-11-21T10:00:49.437Z',NULL,'53578554a713ca9faa05fd64aeed9c93');
INSERT INTO "thumbs" VALUES('01a1fd8d-2a23-756b-8507-3918d981c4f9','01a1fd8d-2a22-7443-af8a-344cf9f3e17a','ann',1,'["helpful"]','','key-6','2026-11-21T10:00:49.443Z',NULL,'7d510e04ba11dfaf9b5e7d927d1b88b4');
INSERT INTO "thumbs" VALUES('01a1fd8d-2a23-7d2f-8225-9337f5dec989','01a1fd8d-2a22-7bf6-89d7-d15207c5a871','ann',-1,'[]','rude','key-7','2026-11-21T10:00:49.443Z',NULL,'7d510e04ba11dfaf9b5e7d927d1b88b4');
INSERT INTO "thumbs" VALUES('01a1fd8d-2a29-7fc4-94f6-71b01c7d97c4','01a1fd8d-2a28-7ece-8e40-c705b7dfb3d9','bob',1,'["helpful"]','','key-11','2026-11-21T10:00:49.449Z',NULL,'08774dd10f75e85364e71643634036cf');
INSERT INTO "thumbs" VALUES('01a1fd8d-2a2a-7808-8eb0-15caa5ede23e','01a1fd8d-2a29-77cc-a550-6a6a8387883b','bob',-1,'[]','rude','key-12','2026-11-21T10:00:49.450Z',NULL,'08774dd10f75e85364e71643634036cf');
INSERT INTO "thumbs" VALUES('01a1fd8d-2a34-7cac-b973-2c9fa9484217','01a1fd8d-2a33-7d2f-8b52-d308bd52975b','ann',1,'["helpful"]','','key-16','2026-11-21T10:00:49.460Z',NULL,'f6102595188b103adfc3be669591563d');
INSERT INTO "thumbs" VALUES('01a1fd8d-2a35-7467-87ba-c7b94413e5e4','01a1fd8d-2a34-74bb-b899-e22d5951e0db','ann',-1,'[]','rude','key-17','2026-11-21T10:00:49.461Z',NULL,'f6102595188b103adfc3be669591563d');
INSERT INTO "thumbs" VALUES('01a1fd8d-2a3f-718d-9655-d9fe70943813','01a1fd8d-2a3e-707b-a657-d5d1caf7b6ea','bob',1,'["helpful"]','','key-22','2026-11-21T10:00:49.471Z',NULL,'4a403c4433264c80a0dfdb6ccc937ce5');
INSERT INTO "thumbs" VALUES('01a1fd8d-2a3f-78e8-b5e8-713ac92b2865','01a1fd8d-2a3e-791f-b40f-4a11c6efc27f','bob',-1,'[]','rude','key-23','2026-11-21T10:00:49.471Z',NULL,'4a403c4433264c80a0dfdb6ccc937ce5');
INSERT INTO "thumbs" VALUES('01a1fd8d-2a46-70b7-9193-c7eb568fd6da','01a1fd8d-2a44-7f4f-8918-d8c455efa208','ann',1,'["helpful"]','','key-27','2026-11-21T10:00:49.478Z',NULL,'35a6636af3fde2fccee33b5064268784');
INSERT INTO "thumbs" VALUES('01a1fd8d-2a46-7926-83fd-11c7a474f03f','01a1fd8d-2a45-77f8-9484-f9bdd5a10141','ann',-1,'[]','rude','key-28','2026-11-21T10:00:49.478Z',NULL,'35a6636af3fde2fccee33b5064268784');
INSERT INTO "comparisons" VALUES('549a48a83c935c1bafd060c05c70faa9','ann','23a7e4318638fca714a08a3aed1bd173','01a1fd8d-2a42-7bd7-a0f2-31348e44f003','01a1fd8d-2a43-74c7-9b3d-440ad0d39f51','01a1fd8d-2a43-760c-ab8e-366310380988','b','choice',1.0,NULL,'held_out','["01a1fd8d-2a43-7eb0-82c7-5004dd5e8d09"]','2026-11-21T10:00:49.475Z',NULL);
INSERT INTO "comparisons" VALUES('196d070650756021abbf09c278175f05','ann','35a6636af3fde2fccee33b5064268784','01a1fd8d-2a44-75f9-9e49-53588bce1a5d','01a1fd8d-2a47-7b26-8bbb-639392ca8461','01a1fd8d-2a47-7d41-8b61-f7b7100966d4','tie','ranking',0.3333333333333333,NULL,'train','["01a1fd8d-2a48-78c2-bf1d-e70404962ade"]','2026-11-21T10:00:49.480Z',NULL);
INSERT INTO "comparisons" VALUES('243ef22c86910f75ad702878a2a71225','ann','35a6636af3fde2fccee33b5064268784','01a1fd8d-2a44-75f9-9e49-53588bce1a5d','01a1fd8d-2a44-7f4f-8918-d8c455efa208','01a1fd8d-2a45-77f8-9484-f9bdd5a10141','a','thumbs',1.0,NULL,'train','["01a1fd8d-2a46-70b7-9193-c7eb568fd6da", "01a1fd8d-2a46-7926-83fd-11c7a474f03f"]','2026-11-21T10:00:49.478Z',NULL);
INSERT INTO "comparisons" VALUES('695d46ee6f1ce7caaeadd2f99dad826d','ann','35a6636af3fde2fccee33b5064268784','01a1fd8d-2a44-75f9-9e49-53588bce1a5d','01a1fd8d-2a47-72a0-8249-c503868d3c20','01a1fd8d-2a45-77f8-9484-f9bdd5a10141','a','edit',1.0,NULL,'train','["01a1fd8d-2a47-72a0-8249-c503868d3c20"]','2026-11-21T10:00:49.479Z',NULL);
INSERT INTO "comparisons" VALUES('9c7bdbefad1c6a3296420409b323daf1','ann','35a6636af3fde2fccee33b5064268784','01a1fd8d-2a44-75f9-9e49-53588bce1a5d','01a1fd8d-2a47-7c5c-b6d9-c549064fa816','01a1fd8d-2a47-7d41-8b61-f7b7100966d4','a','ranking',0.3333333333333333,NULL,'train','["01a1fd8d-2a48-78c2-bf1d-e70404962ade"]','2026-11-21T10:00:49.480Z',NULL);
INSERT INTO "comparisons" VALUES('a96f3ce570f4ff83525402dd2c15004e','ann','35a6636af3fde2fccee33b5064268784','01a1fd8d-2a44-75f9-9e49-53588bce1a5d','01a1fd8d-2a47-7b26-8bbb-639392ca8461','01a1fd8d-2a47-7c5c-b6d9-c549064fa816','b','ranking',0.3333333333333333,NULL,'train','["01a1fd8d-2a48-78c2-bf1d-e70404962ade"]','2026-11-21T10:00:49.480Z',NULL);
INSERT INTO "comparisons" VALUES('46c4dc152df3c09d34a5bebd15c152b7','ann','7d510e04ba11dfaf9b5e7d927d1b88b4','01a1fd8d-2a21-7afc-b6f5-269db4da3112','01a1fd8d-2a22-7443-af8a-344cf9f3e17a','01a1fd8d-2a22-7bf6-89d7-d15207c5a871','a','thumbs',1.0,NULL,'train','["01a1fd8d-2a23-756b-8507-3918d981c4f9", "01a1fd8d-2a23-7d2f-8225-9337f5dec989"]','2026-11-21T10:00:49.443Z',NULL);
INSERT INTO "comparisons" VALUES('54b900901f70d6ab5f0e6f49e9a7d065','ann','7d510e04ba11dfaf9b5e7d927d1b88b4','01a1fd8d-2a21-7afc-b6f5-269db4da3112','01a1fd8d-2a24-7ea0-83ac-7543d8c1d6a4','01a1fd8d-2a25-70d3-8676-04f695aa223b','tie','ranking',0.3333333333333333,NULL,'train','["01a1fd8d-2a25-7c0c-a8a7-91396a7166a5"]','2026-11-21T10:00:49.445Z',NULL);
INSERT INTO "comparisons" VALUES('a367fe7912db0fc32738afecb85a2672','ann','7d510e04ba11dfaf9b5e7d927d1b88b4','01a1fd8d-2a21-7afc-b6f5-269db4da3112','01a1fd8d-2a24-7ea0-83ac-7543d8c1d6a4','01a1fd8d-2a24-7ff6-913a-5cbdcb1f6b2f','b','ranking',0.3333333333333333,NULL,'train','["01a1fd8d-2a25-7c0c-a8a7-91396a7166a5"]','2026-11-21T10:00:49.445Z',NULL);
INSERT INTO "comparisons" VALUES('e30da977abe6b53274fd57bfda24dcbf','ann','7d510e04ba11dfaf9b5e7d927d1b88b4','01a1fd8d-2a21-7afc-b6f5-269db4da3112','01a1fd8d-2a24-7ff6-913a-5cbdcb1f6b2f','01a1fd8d-2a25-70d3-8676-04f695aa223b','a','ranking',0.3333333333333333,NULL,'train','["01a1fd8d-2a25-7c0c-a8a7-91396a7166a5"]','2026-11-21T10:00:49.445Z',NULL);
INSERT INTO "comparisons" VALUES('f4207bcd51083619ee957c1a9a2c0537','ann','7d510e04ba11dfaf9b5e7d927d1b88b4','01a1fd8d-2a21-7afc-b6f5-269db4da3112','01a1fd8d-2a24-7607-bcd9-71d8142598f7','01a1fd8d-2a22-7bf6-89d7-d15207c5a871','a','edit',1.0,NULL,'train','["01a1fd8d-2a24-7607-bcd9-71d8142598f7"]','2026-11-21T10:00:49.444Z',NULL);
INSERT INTO "comparisons" VALUES('1c96e02fac05d25b66480188bee73dc4','ann','9eb6e4a3ba9ee590cea8b8b5f9b4d96c','01a1fd8d-2a31-730f-b9f2-e5f5aa1df068','01a1fd8d-2a31-7e59-8bbe-ab7c01f80a6a','01a1fd8d-2a31-7faa-8f4e-bee53f5143db','a','choice',1.0,NULL,'train','["01a1fd8d-2a32-7c43-aea3-312f2f3a15d4"]','2026-11-21T10:00:49.458Z',NULL);
INSERT INTO "comparisons" VALUES('1e9c5e790d8e4182dd3de0a771d563ad','ann','c805e7d36cbbee4c7a43a3aa518dfaf1','01a1fd8d-2a1f-7ff9-8cd4-f29d79315524','01a1fd8d-2a20-7978-8290-8729466c6147','01a1fd8d-2a20-7aa8-a3be-8c655ddc4cac','tie','choice',1.0,NULL,'train','["01a1fd8d-2a21-742e-9d28-ee415b3f6480"]','2026-11-21T10:00:49.441Z',NULL);
INSERT INTO "comparisons" VALUES('18b95f0bc33b38f6a808277aaa5f760c','ann','f6102595188b103adfc3be669591563d','01a1fd8d-2a33-751c-8d57-0bce28e49381','01a1fd8d-2a35-7e11-83be-5b1fb80862e0','01a1fd8d-2a34-74bb-b899-e22d5951e0db','a','edit',1.0,NULL,'train','["01a1fd8d-2a35-7e11-83be-5b1fb80862e0"]','2026-11-21T10:00:49.461Z',NULL);
INSERT INTO "comparisons" VALUES('1bdfe8854657cd8cf23f06a2ab5a6fba','ann','f6102595188b103adfc3be669591563d','01a1fd8d-2a33-751c-8d57-0bce28e49381','01a1fd8d-2a36-7987-98a9-61dae4d1f9f3','01a1fd8d-2a36-7a76-88cf-c11a9d400e2a','a','ranking',0.3333333333333333,NULL,'train','["01a1fd8d-2a37-739d-a81c-3f8eaa12aaa7"]','2026-11-21T10:00:49.463Z',NULL);
INSERT INTO "comparisons" VALUES('98d5a39bf72b1649f4f92a49955e75bb','ann','f6102595188b103adfc3be669591563d','01a1fd8d-2a33-751c-8d57-0bce28e49381','01a1fd8d-2a36-7840-a641-136c6e72872f','01a1fd8d-2a36-7987-98a9-61dae4d1f9f3','b','ranking',0.3333333333333333,NULL,'train','["01a1fd8d-2a37-739d-a81c-3f8eaa12aaa7"]','2026-11-21T10:00:49.463Z',NULL);
INSERT INTO "comparisons" VALUES('ae7412ec28738a58f68fff0f81d1a5dd','ann','f6102595188b103adfc3be669591563d','01a1fd8d-2a33-751c-8d57-0bce28e49381','01a1fd8d-2a36-7840-a641-136c6e72872f','01a1fd8d-2a36-7a76-88cf-c11a9d400e2a','tie','ranking',0.3333333333333333,NULL,'train','["01a1fd8d-2a37-739d-a81c-3f8eaa12aaa7"]','2026-11-21T10:00:49.463Z',NULL);
INSERT INTO "comparisons" VALUES('e14988baed527c8c30856739d51f6ed9','ann','f6102595188b103adfc3be669591563d','01a1fd8d-2a33-751c-8d57-0bce28e49381','01a1fd8d-2a33-7d2f-8b52-d308bd52975b','01a1fd8d-2a34-74bb-b899-e22d5951e0db','a','thumbs',1.0,NULL,'train','["01a1fd8d-2a34-7cac-b973-2c9fa9484217", "01a1fd8d-2a35-7467-87ba-c7b94413e5e4"]','2026-11-21T10:00:49.461Z',NULL);
INSERT INTO "comparisons" VALUES('0c9ef0b30ca7b8dc4c5c251e32f67362','bob','08774dd10f75e85364e71643634036cf','01a1fd8d-2a28-775c-93bf-84953a0c0141','01a1fd8d-2a2f-7894-ad69-17b43cc66c5d','01a1fd8d-2a2f-79e2-8000-df916d705b5f','b','ranking',0.3333333333333333,NULL,'train','["01a1fd8d-2a30-7490-be73-62cad6f8219d"]','2026-11-21T10:00:49.456Z',NULL);
INSERT INTO "comparisons" VALUES('460b22864a6ec6dfff77cab85fe07e00','bob','08774dd10f75e85364e71643634036cf','01a1fd8d-2a28-775c-93bf-84953a0c0141','01a1fd8d-2a28-7ece-8e40-c705b7dfb3d9','01a1fd8d-2a29-77cc-a550-6a6a8387883b','a','thumbs',1.0,NULL,'train','["01a1fd8d-2a29-7fc4-94f6-71b01c7d97c4", "01a1fd8d-2a2a-7808-8eb0-15caa5ede23e"]','2026-11-21T10:00:49.450Z',NULL);
INSERT INTO "comparisons" VALUES('6ce2f976b56e6c8c9175a358b7f5b9b9','bob','08774dd10f75e85364e71643634036cf','01a1fd8d-2a28-775c-93bf-84953a0c0141','01a1fd8d-2a2e-7e78-a0c9-d6a31f98f8a6','01a1fd8d-2a29-77cc-a550-6a6a8387883b','a','edit',1.0,NULL,'train','["01a1fd8d-2a2e-7e78-a0c9-d6a31f98f8a6"]','2026-11-21T10:00:49.454Z',NULL);
INSERT INTO "comparisons" VALUES('dcd8927c14a5960297b59b2f20162cb1','bob','08774dd10f75e85364e71643634036cf','01a1fd8d-2a28-775c-93bf-84953a0c0141','01a1fd8d-2a2f-79e2-8000-df916d705b5f','01a1fd8d-2a2f-7ac9-a1a3-63df2238abc5','a','ranking',0.3333333333333333,NULL,'train','["01a1fd8d-2a30-7490-be73-62cad6f8219d"]','2026-11-21T10:00:49.456Z',NULL);
INSERT INTO "comparisons" VALUES('fa890e20ea9b48457c59af7c9da158ce','bob','08774dd10f75e85364e71643634036cf','01a1fd8d-2a28-775c-93bf-84953a0c0141','01a1fd8d-2a2f-7894-ad69-17b43cc66c5d','01a1fd8d-2a2f-7ac9-a1a3-63df2238abc5','tie','ranking',0.3333333333333333,NULL,'train','["01a1fd8d-2a30-7490-be73-62cad6f8219d"]','2026-11-21T10:00:49.456Z',NULL);
INSERT INTO "comparisons" VALUES('c555bf9f60550364b5544ff2582acd81','bob','143c47e619a68fa5267c09c51e8a6ecd','01a1fd8d-2a19-76e9-a08d-195205d73cca','01a1fd8d-2a1a-7174-9ad2-8c135a61240a','01a1fd8d-2a1a-7374-81be-a37515c740c5','b','choice',1.0,NULL,'held_out','["01a1fd8d-2a1a-7ee9-a080-e26fdb90ddd3"]','2026-11-21T10:00:49.434Z',NULL);
INSERT INTO "comparisons" VALUES('0e2856873099f9a0420cf3659e7673ce','bob','4a403c4433264c80a0dfdb6ccc937ce5','01a1fd8d-2a3d-7862-8ee0-cc1e67a83acf','01a1fd8d-2a40-7e1a-ab4f-dacc715101d2','01a1fd8d-2a41-7051-8ab2-f15392b8b4c6','tie','ranking',0.3333333333333333,NULL,'train','["01a1fd8d-2a41-7c25-acd1-d06806114d61"]','2026-11-21T10:00:49.473Z',NULL);
INSERT INTO "comparisons" VALUES('358acde9121d493d3b6897d40bab6749','bob','4a403c4433264c80a0dfdb6ccc937ce5','01a1fd8d-2a3d-7862-8ee0-cc1e67a83acf','01a1fd8d-2a3e-707b-a657-d5d1caf7b6ea','01a1fd8d-2a3e-791f-b40f-4a11c6efc27f','a','thumbs',1.0,NULL,'train','["01a1fd8d-2a3f-718d-9655-d9fe70943813", "01a1fd8d-2a3f-78e8-b5e8-713ac92b2865"]','2026-11-21T10:00:49.471Z',NULL);
INSERT INTO "comparisons" VALUES('78c7061ba2cb8c448b4b20586929eecc','bob','4a403c4433264c80a0dfdb6ccc937ce5','01a1fd8d-2a3d-7862-8ee0-cc1e67a83acf','01a1fd8d-2a40-7e1a-ab4f-dacc715101d2','01a1fd8d-2a40-7f63-8788-184e88e5e4ef','b','ranking',0.3333333333333333,NULL,'train','["01a1fd8d-2a41-7c25-acd1-d06806114d61"]','2026-11-21T10:00:49.473Z',NULL);
INSERT INTO "comparisons" VALUES('a49a47a16e24cab4e460f773c024f198','bob','4a403c4433264c80a0dfdb6ccc937ce5','01a1fd8d-2a3d-7862-8ee0-cc1e67a83acf','01a1fd8d-2a40-73f8-a4e6-7123a44da599','01a1fd8d-2a3e-791f-b40f-4a11c6efc27f','a','edit',1.0,NULL,'train','["01a1fd8d-2a40-73f8-a4e6-7123a44da599"]','2026-11-21T10:00:49.472Z',NULL);
INSERT INTO "comparisons" VALUES('ca90353e4bf93d188f0f457683c44cca','bob','4a403c4433264c80a0dfdb6ccc937ce5','01a1fd8d-2a3d-7862-8ee0-cc1e67a83acf','01a1fd8d-2a40-7f63-8788-184e88e5e4ef','01a1fd8d-2a41-7051-8ab2-f15392b8b4c6','a','ranking',0.3333333333333333,NULL,'train','["01a1fd8d-2a41-7c25-acd1-d06806114d61"]','2026-11-21T10:00:49.473Z',NULL);
INSERT INTO "comparisons" VALUES('25502dbd3f2643e3e934c15c294107ad','bob','53578554a713ca9faa05fd64aeed9c93','01a1fd8d-2a1b-75ce-aef5-d2c82fd71bd4','01a1fd8d-2a1e-767a-8b7e-97aa51c639c3','01a1fd8d-2a1e-78a6-bf72-1aa22f5c6d56','b','ranking',0.3333333333333333,NULL,'train','["01a1fd8d-2a1f-72d9-b40c-79ac931fed23"]','2026-11-21T10:00:49.439Z',NULL);
INSERT INTO "comparisons" VALUES('335e1800ab6130c5ca742de9181b974c','bob','53578554a713ca9faa05fd64aeed9c93','01a1fd8d-2a1b-75ce-aef5-d2c82fd71bd4','01a1fd8d-2a1d-7d1b-ae9c-014b82921eb2','01a1fd8d-2a1c-744b-b9b8-ff46d94577f2','a','edit',1.0,NULL,'train','["01a1fd8d-2a1d-7d1b-ae9c-014b82921eb2"]','2026-11-21T10:00:49.437Z',NULL);
INSERT INTO "comparisons" VALUES('337c7c923e5374fcef018297ab9553e4','bob','53578554a713ca9faa05fd64aeed9c93','01a1fd8d-2a1b-75ce-aef5-d2c82fd71bd4','01a1fd8d-2a1e-767a-8b7e-97aa51c639c3','01a1fd8d-2a1e-79b1-9bd3-456b69c01884','tie','ranking',0.3333333333333333,NULL,'train','["01a1fd8d-2a1f-72d9-b40c-79ac931fed23"]','2026-11-21T10:00:49.439Z',NULL);
INSERT INTO "comparisons" VALUES('8d38fc45e4a4aa77e9b8040478d8d4e9','bob','53578554a713ca9faa05fd64aeed9c93','01a1fd8d-2a1b-75ce-aef5-d2c82fd71bd4','01a1fd8d-2a1e-78a6-bf72-1aa22f5c6d56','01a1fd8d-2a1e-79b1-9bd3-456b69c01884','a','ranking',0.3333333333333333,NULL,'train','["01a1fd8d-2a1f-72d9-b40c-79ac931fed23"]','2026-11-21T10:00:49.439Z',NULL);
INSERT INTO "comparisons" VALUES('b3274500006dc4dd82baa8fe234056d5','bob','53578554a713ca9faa05fd64aeed9c93','01a1fd8d-2a1b-75ce-aef5-d2c82fd71bd4','01a1fd8d-2a1b-7e77-a416-69bbb2b1b207','01a1fd8d-2a1c-744b-b9b8-ff46d94577f2','a','thumbs',1.0,NULL,'train','["01a1fd8d-2a1c-7b3d-b167-b42db8d9baba", "01a1fd8d-2a1d-732c-a213-63cdd357c227"]','2026-11-21T10:00:49.437Z',NULL);
INSERT INTO "comparisons" VALUES('d1e3932767f0c8ff1318cf66655d2cf1','bob','d5b7445074d7b6e740e1364fe45c8a72','01a1fd8d-2a3b-74e7-90cd-b7e6581919b2','01a1fd8d-2a3b-7d4a-a007-2b519b9d881c','01a1fd8d-2a3b-7e62-92d1-8e89861b8e6c','a','choice',1.0,NULL,'train','["01a1fd8d-2a3c-7ec7-92f4-e76f8da49473"]','2026-11-21T10:00:49.468Z',NULL);
INSERT INTO "cycle_comparisons" VALUES(1,'0c9ef0b30ca7b8dc4c5c251e32f67362');
INSERT INTO "cycle_comparisons" VALUES(1,'0e2856873099f9a0420cf3659e7673ce');
INSERT INTO "cycle_comparisons" VALUES(1,'18b95f0bc33b38f6a808277aaa5f760c');
INSERT INTO "cycle_comparisons" VALUES(1,'196d070650756021abbf09c278175f05');
INSERT INTO "cycle_comparisons" VALUES(1,'1bdfe8854657cd8cf23f06a2ab5a6fba');
INSERT INTO "cycle_comparisons" VALUES(1,'1c96e02fac05d25b66480188bee73dc4');
INSERT INTO "cycle_comparisons" VALUES(1,'1e9c5e790d8e4182dd3de0a771d563ad');
INSERT INTO "cycle_comparisons" VALUES(1,'243ef22c86910f75ad702878a2a71225');
INSERT INTO "cycle_comparisons" VALUES(1,'25502dbd3f2643e3e934c15c294107ad');
INSERT INTO "cycle_comparisons" VALUES(1,'335e1800ab6130c5ca742de9181b974c');
INSERT INTO "cycle_comparisons" VALUES(1,'337c7c923e5374fcef018297ab9553e4');
INSERT INTO "cycle_comparisons" VALUES(1,'358acde9121d493d3b6897d40bab6749');
INSERT INTO "cycle_comparisons" VALUES(1,'460b22864a6ec6dfff77cab85fe07e00');
INSERT INTO "cycle_comparisons" VALUES(1,'46c4dc152df3c09d34a5bebd15c152b7');
INSERT INTO "cycle_comparisons" VALUES(1,'549a48a83c935c1bafd060c05c70faa9');
INSERT INTO "cycle_comparisons" VALUES(1,'54b900901f70d6ab5f0e6f49e9a7d065');
INSERT INTO "cycle_comparisons" VALUES(1,'695d46ee6f1ce7caaeadd2f99dad826d');
INSERT INTO "cycle_comparisons" VALUES(1,'6ce2f976b56e6c8c9175a358b7f5b9b9');
INSERT INTO "cycle_comparisons" VALUES(1,'78c7061ba2cb8c448b4b20586929eecc');
INSERT INTO "cycle_comparisons" VALUES(1,'8d38fc45e4a4aa77e9b8040478d8d4e9');
INSERT INTO "cycle_comparisons" VALUES(1,'98d5a39bf72b1649f4f92a49955e75bb');
INSERT INTO "cycle_comparisons" VALUES(1,'9c7bdbefad1c6a3296420409b323daf1');
INSERT INTO "cycle_comparisons" VALUES(1,'a367fe7912db0fc32738afecb85a2672');
INSERT INTO "cycle_comparisons" VALUES(1,'a49a47a16e24cab4e460f773c024f198');
INSERT INTO "cycle_comparisons" VALUES(1,'a96f3ce570f4ff83525402dd2c15004e');
INSERT INTO "cycle_comparisons" VALUES(1,'ae7412ec28738a58f68fff0f81d1a5dd');
INSERT INTO "cycle_comparisons" VALUES(1,'b3274500006dc4dd82baa8fe234056d5');
INSERT INTO "cycle_comparisons" VALUES(1,'c555bf9f60550364b5544ff2582acd81');
INSERT INTO "cycle_comparisons" VALUES(1,'ca90353e4bf93d188f0f457683c44cca');
INSERT INTO "cycle_comparisons" VALUES(1,'d1e3932767f0c8ff1318cf66655d2cf1');
INSERT INTO "cycle_comparisons" VALUES(1,'dcd8927c14a5960297b59b2f20162cb1');
INSERT INTO "cycle_comparisons" VALUES(1,'e14988baed527c8c30856739d51f6ed9');
INSERT INTO "cycle_comparisons" VALUES(1,'e30da977abe6b53274fd57bfda24dcbf');
INSERT INTO "cycle_comparisons" VALUES(1,'f4207bcd51083619ee957c1a9a2c0537');
INSERT INTO "cycle_comparisons" VALUES(1,'fa890e20ea9b48457c59af7c9da158ce');
INSERT INTO "unpaired" VALUES('07e9912116587ab828279745ff42ea53','bob','9f2e43179b727c3a33ec0847cd0a2677','01a1fd8d-2a26-7b63-bb15-b381665567a8','01a1fd8d-2a27-74de-80b1-ffa8b54054a5',0,'both_bad',0.5,'train','01a1fd8d-2a27-7fc2-8caf-49ee56beaac8','2026-11-21T10:00:49.448Z');
INSERT INTO "unpaired" VALUES('185465e22464ae5bc2c99dd94e99a7f6','bob','9f2e43179b727c3a33ec0847cd0a2677','01a1fd8d-2a26-7b63-bb15-b381665567a8','01a1fd8d-2a27-7649-a89c-0755599e4b9b',0,'both_bad',0.5,'train','01a1fd8d-2a27-7fc2-8caf-49ee56beaac8','2026-11-21T10:00:49.448Z');
INSERT INTO "searchable" VALUES(1,'01a1fd8d-2a19-76e9-a08d-195205d73cca');
INSERT INTO "searchable" VALUES(2,'01a1fd8d-2a1a-7174-9ad2-8c135a61240a');
INSERT INTO "searchable" VALUES(3,'01a1fd8d-2a1a-7374-81be-a37515c740c5');
INSERT INTO "searchable" VALUES(4,'01a1fd8d-2a1b-75ce-aef5-d2c82fd71bd4');
INSERT INTO "searchable" VALUES(5,'01a1fd8d-2a1b-7e77-a416-69bbb2b1b207');
INSERT INTO "searchable" VALUES(6,'01a1fd8d-2a1c-744b-b9b8-ff46d94577f2');
INSERT INTO "searchable" VALUES(7,'01a1fd8d-2a1e-767a-8b7e-97aa51c639c3');
INSERT INTO "searchable" VALUES(8,'01a1fd8d-2a1e-78a6-bf72-1aa22f5c6d56');
INSERT INTO "searchable" VALUES(9,'01a1fd8d-2a1e-79b1-9bd3-456b69c01884');
INSERT INTO "searchable" VALUES(10,'01a1fd8d-2a1f-7ff9-8cd4-f29d79315524');
INSERT INTO "searchable" VALUES(11,'01a1fd8d-2a20-7978-8290-8729466c6147');
INSERT INTO "searchable" VALUES(12,'01a1fd8d-2a20-7aa8-a3be-8c655ddc4cac');
INSERT INTO "searchable" VALUES(13,'01a1fd8d-2a21-7afc-b6f5-269db4da3112');
INSERT INTO "searchable" VALUES(14,'01a1fd8d-2a22-7443-af8a-344cf9f3e17a');
INSERT INTO "searchable" VALUES(15,'01a1fd8d-2a22-7bf6-89d7-d15207c5a871');
INSERT INTO "searchable" VALUES(16,'01a1fd8d-2a24-7ea0-83ac-7543d8c1d6a4');
INSERT INTO "searchable" VALUES(17,'01a1fd8d-2a24-7ff6-913a-5cbdcb1f6b2f');
INSERT INTO "searchable" VALUES(18,'01a1fd8d-2a25-70d3-8676-04f695aa223b');
INSERT INTO "searchable" VALUES(19,'01a1fd8d-2a26-7b63-bb15-b381665567a8');
INSERT INTO "searchable" VALUES(20,'01a1fd8d-2a27-74de-80b1-ffa8b54054a5');
INSERT INTO "searchable" VALUES(21,'01a1fd8d-2a27-7649-a89c-0755599e4b9b');
INSERT INTO "searchable" VALUES(22,'01a1fd8d-2a28-775c-93bf-84953a0c0141');
INSERT INTO "searchable" VALUES(23,'01a1fd8d-2a28-7ece-8e40-c705b7dfb3d9');
INSERT INTO "searchable" VALUES(24,'01a1fd8d-2a29-77cc-a550-6a6a8387883b');
INSERT INTO "searchable" VALUES(25,'01a1fd8d-2a2f-7894-ad69-17b43cc66c5d');
INSERT INTO "searchable" VALUES(26,'01a1fd8d-2a2f-79e2-8000-df916d705b5f');
INSERT INTO "searchable" VALUES(27,'01a1fd8d-2a2f-7ac9-a1a3-63df2238abc5');
INSERT INTO "searchable" VALUES(28,'01a1fd8d-2a31-730f-b9f2-e5f5aa1df068');
INSERT INTO "searchable" VALUES(29,'01a1fd8d-2a31-7e59-8bbe-ab7c01f80a6a');
INSERT INTO "searchable" VALUES(30,'01a1fd8d-2a31-7faa-8f4e-bee53f5143db');
INSERT INTO "searchable" VALUES(31,'01a1fd8d-2a33-751c-8d57-0bce28e49381');
INSERT INTO "searchable" VALUES(32,'01a1fd8d-2a33-7d2f-8b52-d308bd52975b');
INSERT INTO "searchable" VALUES(33,'01a1fd8d-2a34-74bb-b899-e22d5951e0db');
INSERT INTO "searchable" VALUES(34,'01a1fd8d-2a36-7840-a641-136c6e72872f');
INSERT INTO "searchable" VALUES(35,'01a1fd8d-2a36-7987-98a9-61dae4d1f9f3');
INSERT INTO "searchable" VALUES(36,'01a1fd8d-2a36-7a76-88cf-c11a9d400e2a');
INSERT INTO "searchable" VALUES(37,'01a1fd8d-2a3b-74e7-90cd-b7e6581919b2');
INSERT INTO "searchable" VALUES(38,'01a1fd8d-2a3b-7d4a-a007-2b519b9d881c');
INSERT INTO "searchable" VALUES(39,'01a1fd8d-2a3b-7e62-92d1-8e89861b8e6c');
INSERT INTO "searchable" VALUES(40,'01a1fd8d-2a3d-7862-8ee0-cc1e67a83acf');
INSERT INTO "searchable" VALUES(41,'01a1fd8d-2a3e-707b-a657-d5d1caf7b6ea');
INSERT INTO "searchable" VALUES(42,'01a1fd8d-2a3e-791f-b40f-4a11c6efc27f');
INSERT INTO "searchable" VALUES(43,'01a1fd8d-2a40-7e1a-ab4f-dacc715101d2');
INSERT INTO "searchable" VALUES(44,'01a1fd8d-2a40-7f63-8788-184e88e5e4ef');
INSERT INTO "searchable" VALUES(45,'01a1fd8d-2a41-7051-8ab2-f15392b8b4c6');
INSERT INTO "searchable" VALUES(46,'01a1fd8d-2a42-7bd7-a0f2-31348e44f003');
INSERT INTO "searchable" VALUES(47,'01a1fd8d-2a43-74c7-9b3d-440ad0d39f51');
INSERT INTO "searchable" VALUES(48,'01a1fd8d-2a43-760c-ab8e-366310380988');
INSERT INTO "searchable" VALUES(49,'01a1fd8d-2a44-75f9-9e49-53588bce1a5d');
INSERT INTO "searchable" VALUES(50,'01a1fd8d-2a44-7f4f-8918-d8c455efa208');
INSERT INTO "searchable" VALUES(51,'01a1fd8d-2a45-77f8-9484-f9bdd5a10141');
INSERT INTO "searchable" VALUES(52,'01a1fd8d-2a47-7b26-8bbb-639392ca8461');
INSERT INTO "searchable" VALUES(53,'01a1fd8d-2a47-7c5c-b6d9-c549064fa816');
INSERT INTO "searchable" VALUES(54,'01a1fd8d-2a47-7d41-8b61-f7b7100966d4');
CREATE VIEW searched AS SELECT number, content
        FROM searchable JOIN messages ON messages.id = searchable.message_id;
INSERT INTO message_search(message_search) VALUES('rebuild');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX conversations_of_rater ON conversations (rater_id, created_at);
CREATE INDEX candidates_of_prompt ON candidates (prompt_message_id);
CREATE INDEX candidates_of_rater ON candidates (rater_id);
CREATE INDEX messages_of_conversation ON messages (conversation_id, created_at);
CREATE INDEX messages_of_parent ON messages (parent_id);
CREATE UNIQUE INDEX messages_of_candidates ON messages (candidates_id, label) WHERE candidates_id IS NOT NULL;
CREATE INDEX thumbs_of_message ON thumbs (message_id);
CREATE UNIQUE INDEX thumbs_current ON thumbs (message_id, rater_id) WHERE superseded_at IS NULL;
CREATE INDEX choices_of_candidates ON choices (candidates_id);
CREATE UNIQUE INDEX choices_current ON choices (candidates_id, rater_id) WHERE superseded_at IS NULL;
CREATE INDEX rankings_of_candidates ON rankings (candidates_id);
CREATE UNIQUE INDEX rankings_current ON rankings (candidates_id, rater_id) WHERE superseded_at IS NULL;
CREATE INDEX demonstrations_of_message ON demonstrations (message_id);
CREATE UNIQUE INDEX demonstrations_current ON demonstrations (message_id, rater_id) WHERE superseded_at IS NULL AND message_id IS NOT NULL;
CREATE UNIQUE INDEX cycles_running ON cycles (state) WHERE state = 'running';
CREATE INDEX messages_shown ON messages (candidates_id, label, id, text_hash, parent_id, held_out) WHERE candidates_id IS NOT NULL;
CREATE INDEX thumbs_of_prompt ON thumbs (rater_id, prompt_hash) WHERE superseded_at IS NULL;
CREATE INDEX choices_of_prompt ON choices (rater_id, prompt_hash) WHERE superseded_at IS NULL;
CREATE INDEX rankings_of_prompt ON rankings (rater_id, prompt_hash) WHERE superseded_at IS NULL;
CREATE INDEX demonstrations_of_prompt ON demonstrations (rater_id, prompt_hash) WHERE superseded_at IS NULL;
CREATE INDEX retries_of_message ON retries (message_id);
CREATE INDEX retries_of_old ON retries (retry_of);
CREATE INDEX retries_of_prompt ON retries (rater_id, prompt_hash) WHERE superseded_at IS NULL;
CREATE INDEX cycles_of_comparison ON cycle_comparisons (comparison_id);
CREATE TRIGGER message_is_searchable AFTER INSERT ON messages BEGIN
        INSERT INTO searchable (message_id) VALUES (new.id);
        INSERT INTO message_search (rowid, content) VALUES (last_insert_rowid(), new.content);
    END;
CREATE TRIGGER message_is_gone BEFORE DELETE ON messages BEGIN
        INSERT INTO message_search (message_search, rowid, content)
            SELECT 'delete', number, old.content FROM searchable WHERE message_id = old.id;
        DELETE FROM searchable WHERE message_id = old.id;
    END;
CREATE INDEX candidates_gold ON candidates (gold) WHERE gold IS NOT NULL;
COMMIT;
