PRAGMA application_id = 1717854819;
BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'feedback_store','0001_first_schema','2026-11-21 10:00:49.430037+00:00');
CREATE TABLE adapters (
        name TEXT PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('policy', 'reward')),
        parent TEXT,
        cycle_id INTEGER REFERENCES cycles (id),
        state TEXT NOT NULL CHECK (state IN ('candidate', 'published', 'rejected')),
        metrics TEXT NOT NULL,
        created_at TEXT NOT NULL
    ) STRICT;
INSERT INTO "adapters" VALUES('policy-000000','policy',NULL,NULL,'published','{}','2026-11-21T10:00:49.429Z');
CREATE TABLE audit (
        id INTEGER PRIMARY KEY,
        at TEXT NOT NULL,
        action TEXT NOT NULL,
        detail TEXT NOT NULL
    ) STRICT;
CREATE TABLE bookkeeping (name TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
INSERT INTO "bookkeeping" VALUES('derived_from','[2, 12, 7, 6, 7]');
CREATE TABLE candidates (
        id TEXT PRIMARY KEY,
        prompt_message_id TEXT NOT NULL REFERENCES messages (id),
        rater_id TEXT NOT NULL REFERENCES raters (id),
        created_at TEXT NOT NULL
    ) STRICT;
INSERT INTO "candidates" VALUES('01a1fd8d-2a19-7fa8-b9ef-bd1e7d9a742c','01a1fd8d-2a19-76e9-a08d-195205d73cca','bob','2026-11-21T10:00:49.434Z');
INSERT INTO "candidates" VALUES('01a1fd8d-2a1e-751e-a003-ef918973fa93','01a1fd8d-2a1b-75ce-aef5-d2c82fd71bd4','bob','2026-11-21T10:00:49.438Z');
INSERT INTO "candidates" VALUES('01a1fd8d-2a20-783c-b37f-c6c16578070a','01a1fd8d-2a1f-7ff9-8cd4-f29d79315524','ann','2026-11-21T10:00:49.440Z');
INSERT INTO "candidates" VALUES('01a1fd8d-2a24-7d59-80e7-705c5bb5ad2d','01a1fd8d-2a21-7afc-b6f5-269db4da3112','ann','2026-11-21T10:00:49.444Z');
INSERT INTO "candidates" VALUES('01a1fd8d-2a27-73a7-a05c-1a8443392104','01a1fd8d-2a26-7b63-bb15-b381665567a8','bob','2026-11-21T10:00:49.447Z');
INSERT INTO "candidates" VALUES('01a1fd8d-2a2f-7749-8c02-b5320c3b8725','01a1fd8d-2a28-775c-93bf-84953a0c0141','bob','2026-11-21T10:00:49.455Z');
INSERT INTO "candidates" VALUES('01a1fd8d-2a31-7d17-b6d1-b55c81365260','01a1fd8d-2a31-730f-b9f2-e5f5aa1df068','ann','2026-11-21T10:00:49.457Z');
INSERT INTO "candidates" VALUES('01a1fd8d-2a36-7698-b32a-fc7aad0eea80','01a1fd8d-2a33-751c-8d57-0bce28e49381','ann','2026-11-21T10:00:49.462Z');
INSERT INTO "candidates" VALUES('01a1fd8d-2a3b-7c4e-b0a9-6bd6c85e3d71','01a1fd8d-2a3b-74e7-90cd-b7e6581919b2','bob','2026-11-21T10:00:49.467Z');
INSERT INTO "candidates" VALUES('01a1fd8d-2a40-7b78-90af-6dc4346ce8cf','01a1fd8d-2a3d-7862-8ee0-cc1e67a83acf','bob','2026-11-21T10:00:49.472Z');
INSERT INTO "candidates" VALUES('01a1fd8d-2a43-739c-80ca-a1c463eb80ed','01a1fd8d-2a42-7bd7-a0f2-31348e44f003','ann','2026-11-21T10:00:49.475Z');
INSERT INTO "candidates" VALUES('01a1fd8d-2a47-7a25-9ba3-c1c3220b2186','01a1fd8d-2a44-75f9-9e49-53588bce1a5d','ann','2026-11-21T10:00:49.479Z');
CREATE TABLE choices (
        id TEXT PRIMARY KEY,
        candidates_id TEXT NOT NULL REFERENCES candidates (id),
        rater_id TEXT NOT NULL REFERENCES raters (id),
        choice TEXT NOT NULL CHECK (choice IN ('a', 'b', 'tie', 'both_bad')),
        strength REAL,
        seconds REAL,
        idempotency_key TEXT NOT NULL,
        created_at TEXT NOT NULL,
        superseded_at TEXT,
        UNIQUE (rater_id, idempotency_key)
    ) STRICT;
INSERT INTO "choices" VALUES('01a1fd8d-2a1a-7ee9-a080-e26fdb90ddd3','01a1fd8d-2a19-7fa8-b9ef-bd1e7d9a742c','bob','b',NULL,NULL,'key-0','2026-11-21T10:00:49.434Z',NULL);
INSERT INTO "choices" VALUES('01a1fd8d-2a21-742e-9d28-ee415b3f6480','01a1fd8d-2a20-783c-b37f-c6c16578070a','ann','tie',NULL,NULL,'key-5','2026-11-21T10:00:49.441Z',NULL);
INSERT INTO "choices" VALUES('01a1fd8d-2a27-7fc2-8caf-49ee56beaac8','01a1fd8d-2a27-73a7-a05c-1a8443392104','bob','both_bad',NULL,NULL,'key-10','2026-11-21T10:00:49.448Z',NULL);
INSERT INTO "choices" VALUES('01a1fd8d-2a32-7c43-aea3-312f2f3a15d4','01a1fd8d-2a31-7d17-b6d1-b55c81365260','ann','a',NULL,NULL,'key-15','2026-11-21T10:00:49.458Z',NULL);
INSERT INTO "choices" VALUES('01a1fd8d-2a3c-76fa-8c2c-e85926955257','01a1fd8d-2a3b-7c4e-b0a9-6bd6c85e3d71','bob','b',NULL,NULL,'key-20','2026-11-21T10:00:49.468Z','2026-11-21T10:00:49.468Z');
INSERT INTO "choices" VALUES('01a1fd8d-2a3c-7ec7-92f4-e76f8da49473','01a1fd8d-2a3b-7c4e-b0a9-6bd6c85e3d71','bob','a',NULL,NULL,'key-21','2026-11-21T10:00:49.468Z',NULL);
INSERT INTO "choices" VALUES('01a1fd8d-2a43-7eb0-82c7-5004dd5e8d09','01a1fd8d-2a43-739c-80ca-a1c463eb80ed','ann','b',NULL,NULL,'key-26','2026-11-21T10:00:49.475Z',NULL);
CREATE TABLE comparison_events (
        comparison_id TEXT NOT NULL REFERENCES comparisons (id) ON DELETE CASCADE,
        event_id TEXT NOT NULL,
        PRIMARY KEY (comparison_id, event_id)
    ) STRICT, WITHOUT ROWID;
INSERT INTO "comparison_events" VALUES('e37a43647d1a33f3d558d6d4d7db5677','01a1fd8d-2a1a-7ee9-a080-e26fdb90ddd3');
INSERT INTO "comparison_events" VALUES('35d6ab93f438d798fa2f189c054501d7','01a1fd8d-2a1c-7b3d-b167-b42db8d9baba');
INSERT INTO "comparison_events" VALUES('35d6ab93f438d798fa2f189c054501d7','01a1fd8d-2a1d-732c-a213-63cdd357c227');
INSERT INTO "comparison_events" VALUES('f7a93091afef19c84756320107a15f48','01a1fd8d-2a1d-7d1b-ae9c-014b82921eb2');
INSERT INTO "comparison_events" VALUES('6f12243412f5a73c174b4501d3a214eb','01a1fd8d-2a1f-72d9-b40c-79ac931fed23');
INSERT INTO "comparison_events" VALUES('7f8404168fb3a4593a9457dce2e82847','01a1fd8d-2a1f-72d9-b40c-79ac931fed23');
INSERT INTO "comparison_events" VALUES('be68b5bda3ea43db97bd776dc9dfd6c5','01a1fd8d-2a1f-72d9-b40c-79ac931fed23');
INSERT INTO "comparison_events" VALUES('af75c22fc315a3151ffd2e8d1d9955e8','01a1fd8d-2a21-742e-9d28-ee415b3f6480');
INSERT INTO "comparison_events" VALUES('e073d60fe5ea3ea2264d2848e0a4a0dc','01a1fd8d-2a23-756b-8507-3918d981c4f9');
INSERT INTO "comparison_events" VALUES('e073d60fe5ea3ea2264d2848e0a4a0dc','01a1fd8d-2a23-7d2f-8225-9337f5dec989');
INSERT INTO "comparison_events" VALUES('c902e958b09df0752af41312a886ad53','01a1fd8d-2a24-7607-bcd9-71d8142598f7');
INSERT INTO "comparison_events" VALUES('57a28940847fd5b4b08dab64defbacd3','01a1fd8d-2a25-7c0c-a8a7-91396a7166a5');
INSERT INTO "comparison_events" VALUES('6bbc0a4c9a9a059db86dbb5e69282719','01a1fd8d-2a25-7c0c-a8a7-91396a7166a5');
INSERT INTO "comparison_events" VALUES('f88d36705af9c07570418f90c8f135d2','01a1fd8d-2a25-7c0c-a8a7-91396a7166a5');
INSERT INTO "comparison_events" VALUES('e698218eb82ccefd8480bbd1e8a79929','01a1fd8d-2a29-7fc4-94f6-71b01c7d97c4');
INSERT INTO "comparison_events" VALUES('e698218eb82ccefd8480bbd1e8a79929','01a1fd8d-2a2a-7808-8eb0-15caa5ede23e');
INSERT INTO "comparison_events" VALUES('7942dc8b20280448e0cd0b766a797848','01a1fd8d-2a2e-7e78-a0c9-d6a31f98f8a6');
INSERT INTO "comparison_events" VALUES('8d2586ae6b6a8b4e1a3b66e0ee7c7062','01a1fd8d-2a30-7490-be73-62cad6f8219d');
INSERT INTO "comparison_events" VALUES('bb62d6630ed93495951b06fdd7b19ad8','01a1fd8d-2a30-7490-be73-62cad6f8219d');
INSERT INTO "comparison_events" VALUES('f12ea32a179c0c45ae64c7776dc5771f','01a1fd8d-2a30-7490-be73-62cad6f8219d');
INSERT INTO "comparison_events" VALUES('460791633c2b3766696133aacb30f71d','01a1fd8d-2a32-7c43-aea3-312f2f3a15d4');
INSERT INTO "comparison_events" VALUES('a5e8708c8db52d09c37c7e8ed97796f2','01a1fd8d-2a34-7cac-b973-2c9fa9484217');
INSERT INTO "comparison_events" VALUES('a5e8708c8db52d09c37c7e8ed97796f2','01a1fd8d-2a35-7467-87ba-c7b94413e5e4');
INSERT INTO "comparison_events" VALUES('f435f112968c311f10a1ffb1aafade4e','01a1fd8d-2a35-7e11-83be-5b1fb80862e0');
INSERT INTO "comparison_events" VALUES('361b63cbc07ba114eafe4433ccbcabef','01a1fd8d-2a37-739d-a81c-3f8eaa12aaa7');
INSERT INTO "comparison_events" VALUES('a4a7c1599485eee7f11a9820be323469','01a1fd8d-2a37-739d-a81c-3f8eaa12aaa7');
INSERT INTO "comparison_events" VALUES('e814152803f576fc6b6b41cd2f8939b6','01a1fd8d-2a37-739d-a81c-3f8eaa12aaa7');
INSERT INTO "comparison_events" VALUES('845bd95d9abe9ad0c03d57f8561a1bba','01a1fd8d-2a3c-7ec7-92f4-e76f8da49473');
INSERT INTO "comparison_events" VALUES('b832e9fb557ec50e649a99ba25ba844a','01a1fd8d-2a3f-718d-9655-d9fe70943813');
INSERT INTO "comparison_events" VALUES('b832e9fb557ec50e649a99ba25ba844a','01a1fd8d-2a3f-78e8-b5e8-713ac92b2865');
INSERT INTO "comparison_events" VALUES('56da10cbbf4d37b016d0c81f3c55a6cd','01a1fd8d-2a40-73f8-a4e6-7123a44da599');
INSERT INTO "comparison_events" VALUES('0d637dc951f4bb67c424ce53928c5644','01a1fd8d-2a41-7c25-acd1-d06806114d61');
INSERT INTO "comparison_events" VALUES('705a926b67136523379bb8a66032d3c3','01a1fd8d-2a41-7c25-acd1-d06806114d61');
INSERT INTO "comparison_events" VALUES('85166f93bfffaa6061cb342d0342465a','01a1fd8d-2a41-7c25-acd1-d06806114d61');
INSERT INTO "comparison_events" VALUES('0b81d48fb7b8f25c0fee969ff6c7bd67','01a1fd8d-2a43-7eb0-82c7-5004dd5e8d09');
INSERT INTO "comparison_events" VALUES('92893864aa7cd52e237eba49d5e56cac','01a1fd8d-2a46-70b7-9193-c7eb568fd6da');
INSERT INTO "comparison_events" VALUES('92893864aa7cd52e237eba49d5e56cac','01a1fd8d-2a46-7926-83fd-11c7a474f03f');
INSERT INTO "comparison_events" VALUES('61b64c19f8e704005a023a9644aa265f','01a1fd8d-2a47-72a0-8249-c503868d3c20');
INSERT INTO "comparison_events" VALUES('03785e269fb8c06e4c4d705386770a76','01a1fd8d-2a48-78c2-bf1d-e70404962ade');
INSERT INTO "comparison_events" VALUES('5b68aa989e3ccb88c69910ed5794587e','01a1fd8d-2a48-78c2-bf1d-e70404962ade');
INSERT INTO "comparison_events" VALUES('f615eec3cde74677c0c20226ea0a0ea4','01a1fd8d-2a48-78c2-bf1d-e70404962ade');
CREATE TABLE comparisons (
        id TEXT PRIMARY KEY,
        prompt TEXT NOT NULL,
        response_a TEXT NOT NULL,
        response_b TEXT NOT NULL,
        label TEXT NOT NULL CHECK (label IN ('a', 'b', 'tie')),
        source TEXT NOT NULL CHECK (source IN ('choice', 'ranking', 'edit', 'thumbs')),
        weight REAL NOT NULL CHECK (weight > 0),
        rater_id TEXT NOT NULL REFERENCES raters (id),
        split TEXT NOT NULL CHECK (split IN ('train', 'held_out')),
        created_at TEXT NOT NULL,
        withdrawn_at TEXT
    ) STRICT;
INSERT INTO "comparisons" VALUES('03785e269fb8c06e4c4d705386770a76','[{"role": "user", "content": "What is 5 plus 5?"}, {"role": "assistant", "content": "10"}, {"role": "user", "content": "Say hi"}]','x','y','b','ranking',3.33333333333333314829e-01,'ann','train','2026-11-21T10:00:49.480Z',NULL);
INSERT INTO "comparisons" VALUES('0b81d48fb7b8f25c0fee969ff6c7bd67','[{"role": "user", "content": "What is 5 plus 5?"}]','one','10','b','choice',1.0,'ann','held_out','2026-11-21T10:00:49.475Z',NULL);
INSERT INTO "comparisons" VALUES('0d637dc951f4bb67c424ce53928c5644','[{"role": "user", "content": "What is 4 plus 4?"}, {"role": "assistant", "content": "8"}, {"role": "user", "content": "Say hi"}]','x','y','b','ranking',3.33333333333333314829e-01,'bob','train','2026-11-21T10:00:49.473Z',NULL);
INSERT INTO "comparisons" VALUES('35d6ab93f438d798fa2f189c054501d7','[{"role": "user", "content": "What is 0 plus 0?"}, {"role": "assistant", "content": "0"}, {"role": "user", "content": "Say hi"}]','hi','no','a','thumbs',1.0,'bob','train','2026-11-21T10:00:49.437Z',NULL);
INSERT INTO "comparisons" VALUES('361b63cbc07ba114eafe4433ccbcabef','[{"role": "user", "content": "What is 3 plus 3?"}, {"role": "assistant", "content": "6"}, {"role": "user", "content": "Say hi"}]','y','z','a','ranking',3.33333333333333314829e-01,'ann','train','2026-11-21T10:00:49.463Z',NULL);
INSERT INTO "comparisons" VALUES('460791633c2b3766696133aacb30f71d','[{"role": "user", "content": "What is 3 plus 3?"}]','one','6','a','choice',1.0,'ann','train','2026-11-21T10:00:49.458Z',NULL);
INSERT INTO "comparisons" VALUES('56da10cbbf4d37b016d0c81f3c55a6cd','[{"role": "user", "content": "What is 4 plus 4?"}, {"role": "assistant", "content": "8"}, {"role": "user", "content": "Say hi"}]','Hello!','no','a','edit',1.0,'bob','train','2026-11-21T10:00:49.472Z',NULL);
INSERT INTO "comparisons" VALUES('57a28940847fd5b4b08dab64defbacd3','[{"role": "user", "content": "What is 1 plus 1?"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "Say hi"}]','x','y','b','ranking',3.33333333333333314829e-01,'ann','train','2026-11-21T10:00:49.445Z',NULL);
INSERT INTO "comparisons" VALUES('5b68aa989e3ccb88c69910ed5794587e','[{"role": "user", "content": "What is 5 plus 5?"}, {"role": "assistant", "content": "10"}, {"role": "user", "content": "Say hi"}]','y','z','a','ranking',3.33333333333333314829e-01,'ann','train','2026-11-21T10:00:49.480Z',NULL);
INSERT INTO "comparisons" VALUES('61b64c19f8e704005a023a9644aa265f','[{"role": "user", "content": "What is 5 plus 5?"}, {"role": "assistant", "content": "10"}, {"role": "user", "content": "Say hi"}]','Hello!','no','a','edit',1.0,'ann','train','2026-11-21T10:00:49.479Z',NULL);
INSERT INTO "comparisons" VALUES('6bbc0a4c9a9a059db86dbb5e69282719','[{"role": "user", "content": "What is 1 plus 1?"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "Say hi"}]','y','z','a','ranking',3.33333333333333314829e-01,'ann','train','2026-11-21T10:00:49.445Z',NULL);
INSERT INTO "comparisons" VALUES('6f12243412f5a73c174b4501d3a214eb','[{"role": "user", "content": "What is 0 plus 0?"}, {"role": "assistant", "content": "0"}, {"role": "user", "content": "Say hi"}]','x','z','tie','ranking',3.33333333333333314829e-01,'bob','train','2026-11-21T10:00:49.439Z',NULL);
INSERT INTO "comparisons" VALUES('705a926b67136523379bb8a66032d3c3','[{"role": "user", "content": "What is 4 plus 4?"}, {"role": "assistant", "content": "8"}, {"role": "user", "content": "Say hi"}]','x','z','tie','ranking',3.33333333333333314829e-01,'bob','train','2026-11-21T10:00:49.473Z',NULL);
INSERT INTO "comparisons" VALUES('7942dc8b20280448e0cd0b766a797848','[{"role": "user", "content": "What is 2 plus 2?"}, {"role": "assistant", "content": "4"}, {"role": "user", "content": "Say hi"}]','Hello!','no','a','edit',1.0,'bob','train','2026-11-21T10:00:49.454Z',NULL);
INSERT INTO "comparisons" VALUES('7f8404168fb3a4593a9457dce2e82847','[{"role": "user", "content": "What is 0 plus 0?"}, {"role": "assistant", "content": "0"}, {"role": "user", "content": "Say hi"}]','x','y','b','ranking',3.33333333333333314829e-01,'bob','train','2026-11-21T10:00:49.439Z',NULL);
INSERT INTO "comparisons" VALUES('845bd95d9abe9ad0c03d57f8561a1bba','[{"role": "user", "content": "What is 4 plus 4?"}]','one','8','a','choice',1.0,'bob','train','2026-11-21T10:00:49.468Z',NULL);
INSERT INTO "comparisons" VALUES('85166f93bfffaa6061cb342d0342465a','[{"role": "user", "content": "What is 4 plus 4?"}, {"role": "assistant", "content": "8"}, {"role": "user", "content": "Say hi"}]','y','z','a','ranking',3.33333333333333314829e-01,'bob','train','2026-11-21T10:00:49.473Z',NULL);
INSERT INTO "comparisons" VALUES('8d2586ae6b6a8b4e1a3b66e0ee7c7062','[{"role": "user", "content": "What is 2 plus 2?"}, {"role": "assistant", "content": "4"}, {"role": "user", "content": "Say hi"}]','x','z','tie','ranking',3.33333333333333314829e-01,'bob','train','2026-11-21T10:00:49.456Z',NULL);
INSERT INTO "comparisons" VALUES('92893864aa7cd52e237eba49d5e56cac','[{"role": "user", "content": "What is 5 plus 5?"}, {"role": "assistant", "content": "10"}, {"role": "user", "content": "Say hi"}]','hi','no','a','thumbs',1.0,'ann','train','2026-11-21T10:00:49.478Z',NULL);
INSERT INTO "comparisons" VALUES('a4a7c1599485eee7f11a9820be323469','[{"role": "user", "content": "What is 3 plus 3?"}, {"role": "assistant", "content": "6"}, {"role": "user", "content": "Say hi"}]','x','y','b','ranking',3.33333333333333314829e-01,'ann','train','2026-11-21T10:00:49.463Z',NULL);
INSERT INTO "comparisons" VALUES('a5e8708c8db52d09c37c7e8ed97796f2','[{"role": "user", "content": "What is 3 plus 3?"}, {"role": "assistant", "content": "6"}, {"role": "user", "content": "Say hi"}]','hi','no','a','thumbs',1.0,'ann','train','2026-11-21T10:00:49.461Z',NULL);
INSERT INTO "comparisons" VALUES('af75c22fc315a3151ffd2e8d1d9955e8','[{"role": "user", "content": "What is 1 plus 1?"}]','one','2','tie','choice',1.0,'ann','train','2026-11-21T10:00:49.441Z',NULL);
INSERT INTO "comparisons" VALUES('b832e9fb557ec50e649a99ba25ba844a','[{"role": "user", "content": "What is 4 plus 4?"}, {"role": "assistant", "content": "8"}, {"role": "user", "content": "Say hi"}]','hi','no','a','thumbs',1.0,'bob','train','2026-11-21T10:00:49.471Z',NULL);
INSERT INTO "comparisons" VALUES('bb62d6630ed93495951b06fdd7b19ad8','[{"role": "user", "content": "What is 2 plus 2?"}, {"role": "assistant", "content": "4"}, {"role": "user", "content": "Say hi"}]','y','z','a','ranking',3.33333333333333314829e-01,'bob','train','2026-11-21T10:00:49.456Z',NULL);
INSERT INTO "comparisons" VALUES('be68b5bda3ea43db97bd776dc9dfd6c5','[{"role": "user", "content": "What is 0 plus 0?"}, {"role": "assistant", "content": "0"}, {"role": "user", "content": "Say hi"}]','y','z','a','ranking',3.33333333333333314829e-01,'bob','train','2026-11-21T10:00:49.439Z',NULL);
INSERT INTO "comparisons" VALUES('c902e958b09df0752af41312a886ad53','[{"role": "user", "content": "What is 1 plus 1?"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "Say hi"}]','Hello!','no','a','edit',1.0,'ann','train','2026-11-21T10:00:49.444Z',NULL);
INSERT INTO "comparisons" VALUES('e073d60fe5ea3ea2264d2848e0a4a0dc','[{"role": "user", "content": "What is 1 plus 1?"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "Say hi"}]','hi','no','a','thumbs',1.0,'ann','train','2026-11-21T10:00:49.443Z',NULL);
INSERT INTO "comparisons" VALUES('e37a43647d1a33f3d558d6d4d7db5677','[{"role": "user", "content": "What is 0 plus 0?"}]','one','0','b','choice',1.0,'bob','held_out','2026-11-21T10:00:49.434Z',NULL);
INSERT INTO "comparisons" VALUES('e698218eb82ccefd8480bbd1e8a79929','[{"role": "user", "content": "What is 2 plus 2?"}, {"role": "assistant", "content": "4"}, {"role": "user", "content": "Say hi"}]','hi','no','a','thumbs',1.0,'bob','train','2026-11-21T10:00:49.450Z',NULL);
INSERT INTO "comparisons" VALUES('e814152803f576fc6b6b41cd2f8939b6','[{"role": "user", "content": "What is 3 plus 3?"}, {"role": "assistant", "content": "6"}, {"role": "user", "content": "Say hi"}]','x','z','tie','ranking',3.33333333333333314829e-01,'ann','train','2026-11-21T10:00:49.463Z',NULL);
INSERT INTO "comparisons" VALUES('f12ea32a179c0c45ae64c7776dc5771f','[{"role": "user", "content": "What is 2 plus 2?"}, {"role": "assistant", "content": "4"}, {"role": "user", "content": "Say hi"}]','x','y','b','ranking',3.33333333333333314829e-01,'bob','train','2026-11-21T10:00:49.456Z',NULL);
INSERT INTO "comparisons" VALUES('f435f112968c311f10a1ffb1aafade4e','[{"role": "user", "content": "What is 3 plus 3?"}, {"role": "assistant", "content": "6"}, {"role": "user", "content": "Say hi"}]','Hello!','no','a','edit',1.0,'ann','train','2026-11-21T10:00:49.461Z',NULL);
INSERT INTO "comparisons" VALUES('f615eec3cde74677c0c20226ea0a0ea4','[{"role": "user", "content": "What is 5 plus 5?"}, {"role": "assistant", "content": "10"}, {"role": "user", "content": "Say hi"}]','x','z','tie','ranking',3.33333333333333314829e-01,'ann','train','2026-11-21T10:00:49.480Z',NULL);
INSERT INTO "comparisons" VALUES('f7a93091afef19c84756320107a15f48','[{"role": "user", "content": "What is 0 plus 0?"}, {"role": "assistant", "content": "0"}, {"role": "user", "content": "Say hi"}]','Hello!','no','a','edit',1.0,'bob','train','2026-11-21T10:00:49.437Z',NULL);
INSERT INTO "comparisons" VALUES('f88d36705af9c07570418f90c8f135d2','[{"role": "user", "content": "What is 1 plus 1?"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "Say hi"}]','x','z','tie','ranking',3.33333333333333314829e-01,'ann','train','2026-11-21T10:00:49.445Z',NULL);
CREATE TABLE conversations (
        id TEXT PRIMARY KEY,
        rater_id TEXT NOT NULL REFERENCES raters (id),
        title TEXT NOT NULL,
        created_at TEXT NOT NULL
    ) STRICT;
INSERT INTO "conversations" VALUES('01a1fd8d-2a18-7f82-8481-f7efdc99fa6f','bob','chat 0','2026-11-21T10:00:49.432Z');
INSERT INTO "conversations" VALUES('01a1fd8d-2a1f-7af2-b6b4-0118ac2ca1b8','ann','chat 1','2026-11-21T10:00:49.439Z');
INSERT INTO "conversations" VALUES('01a1fd8d-2a26-748f-98fb-c070e30722e0','bob','chat 2','2026-11-21T10:00:49.446Z');
INSERT INTO "conversations" VALUES('01a1fd8d-2a30-7c0d-94b3-beb4d16f6f45','ann','chat 3','2026-11-21T10:00:49.456Z');
INSERT INTO "conversations" VALUES('01a1fd8d-2a3a-7dda-9d48-ab8f844268b4','bob','chat 4','2026-11-21T10:00:49.466Z');
INSERT INTO "conversations" VALUES('01a1fd8d-2a42-7512-8aec-fe65d63275a0','ann','chat 5','2026-11-21T10:00:49.474Z');
CREATE TABLE cycle_comparisons (
        cycle_id INTEGER NOT NULL REFERENCES cycles (id),
        comparison_id TEXT NOT NULL REFERENCES comparisons (id) ON DELETE CASCADE,
        PRIMARY KEY (cycle_id, comparison_id)
    ) STRICT, WITHOUT ROWID;
INSERT INTO "cycle_comparisons" VALUES(1,'03785e269fb8c06e4c4d705386770a76');
INSERT INTO "cycle_comparisons" VALUES(1,'0b81d48fb7b8f25c0fee969ff6c7bd67');
INSERT INTO "cycle_comparisons" VALUES(1,'0d637dc951f4bb67c424ce53928c5644');
INSERT INTO "cycle_comparisons" VALUES(1,'35d6ab93f438d798fa2f189c054501d7');
INSERT INTO "cycle_comparisons" VALUES(1,'361b63cbc07ba114eafe4433ccbcabef');
INSERT INTO "cycle_comparisons" VALUES(1,'460791633c2b3766696133aacb30f71d');
INSERT INTO "cycle_comparisons" VALUES(1,'56da10cbbf4d37b016d0c81f3c55a6cd');
INSERT INTO "cycle_comparisons" VALUES(1,'57a28940847fd5b4b08dab64defbacd3');
INSERT INTO "cycle_comparisons" VALUES(1,'5b68aa989e3ccb88c69910ed5794587e');
INSERT INTO "cycle_comparisons" VALUES(1,'61b64c19f8e704005a023a9644aa265f');
INSERT INTO "cycle_comparisons" VALUES(1,'6bbc0a4c9a9a059db86dbb5e69282719');
INSERT INTO "cycle_comparisons" VALUES(1,'6f12243412f5a73c174b4501d3a214eb');
INSERT INTO "cycle_comparisons" VALUES(1,'705a926b67136523379bb8a66032d3c3');
INSERT INTO "cycle_comparisons" VALUES(1,'7942dc8b20280448e0cd0b766a797848');
INSERT INTO "cycle_comparisons" VALUES(1,'7f8404168fb3a4593a9457dce2e82847');
INSERT INTO "cycle_comparisons" VALUES(1,'845bd95d9abe9ad0c03d57f8561a1bba');
INSERT INTO "cycle_comparisons" VALUES(1,'85166f93bfffaa6061cb342d0342465a');
INSERT INTO "cycle_comparisons" VALUES(1,'8d2586ae6b6a8b4e1a3b66e0ee7c7062');
INSERT INTO "cycle_comparisons" VALUES(1,'92893864aa7cd52e237eba49d5e56cac');
INSERT INTO "cycle_comparisons" VALUES(1,'a4a7c1599485eee7f11a9820be323469');
INSERT INTO "cycle_comparisons" VALUES(1,'a5e8708c8db52d09c37c7e8ed97796f2');
INSERT INTO "cycle_comparisons" VALUES(1,'af75c22fc315a3151ffd2e8d1d9955e8');
INSERT INTO "cycle_comparisons" VALUES(1,'b832e9fb557ec50e649a99ba25ba844a');
INSERT INTO "cycle_comparisons" VALUES(1,'bb62d6630ed93495951b06fdd7b19ad8');
INSERT INTO "cycle_comparisons" VALUES(1,'be68b5bda3ea43db97bd776dc9dfd6c5');
INSERT INTO "cycle_comparisons" VALUES(1,'c902e958b09df0752af41312a886ad53');
INSERT INTO "cycle_comparisons" VALUES(1,'e073d60fe5ea3ea2264d2848e0a4a0dc');
INSERT INTO "cycle_comparisons" VALUES(1,'e37a43647d1a33f3d558d6d4d7db5677');
INSERT INTO "cycle_comparisons" VALUES(1,'e698218eb82ccefd8480bbd1e8a79929');
INSERT INTO "cycle_comparisons" VALUES(1,'e814152803f576fc6b6b41cd2f8939b6');
INSERT INTO "cycle_comparisons" VALUES(1,'f12ea32a179c0c45ae64c7776dc5771f');
INSERT INTO "cycle_comparisons" VALUES(1,'f435f112968c311f10a1ffb1aafade4e');
INSERT INTO "cycle_comparisons" VALUES(1,'f615eec3cde74677c0c20226ea0a0ea4');
INSERT INTO "cycle_comparisons" VALUES(1,'f7a93091afef19c84756320107a15f48');
INSERT INTO "cycle_comparisons" VALUES(1,'f88d36705af9c07570418f90c8f135d2');
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
INSERT INTO "cycles" VALUES(1,'rejected','done',1.0,NULL,'["no better"]','{}','{"seed": 0}',4595,'789d7d90-23ae-4584-b033-6ca2ae7db8bc/140348','2026-11-21T10:00:49.485Z','2026-11-21T10:00:49.488Z');
CREATE TABLE demonstrations (
        id TEXT PRIMARY KEY,
        rater_id TEXT NOT NULL REFERENCES raters (id),
        message_id TEXT REFERENCES messages (id),
        prompt TEXT NOT NULL,
        content TEXT NOT NULL,
        idempotency_key TEXT NOT NULL,
        created_at TEXT NOT NULL,
        superseded_at TEXT,
        UNIQUE (rater_id, idempotency_key)
    ) STRICT;
INSERT INTO "demonstrations" VALUES('01a1fd8d-2a1d-7d1b-ae9c-014b82921eb2','bob','01a1fd8d-2a1c-744b-b9b8-ff46d94577f2','[{"role": "user", "content": "What is 0 plus 0?"}, {"role": "assistant", "content": "0"}, {"role": "user", "content": "Say hi"}]','Hello!','key-3','2026-11-21T10:00:49.437Z',NULL);
INSERT INTO "demonstrations" VALUES('01a1fd8d-2a24-7607-bcd9-71d8142598f7','ann','01a1fd8d-2a22-7bf6-89d7-d15207c5a871','[{"role": "user", "content": "What is 1 plus 1?"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "Say hi"}]','Hello!','key-8','2026-11-21T10:00:49.444Z',NULL);
INSERT INTO "demonstrations" VALUES('01a1fd8d-2a2e-7e78-a0c9-d6a31f98f8a6','bob','01a1fd8d-2a29-77cc-a550-6a6a8387883b','[{"role": "user", "content": "What is 2 plus 2?"}, {"role": "assistant", "content": "4"}, {"role": "user", "content": "Say hi"}]','Hello!','key-13','2026-11-21T10:00:49.454Z',NULL);
INSERT INTO "demonstrations" VALUES('01a1fd8d-2a35-7e11-83be-5b1fb80862e0','ann','01a1fd8d-2a34-74bb-b899-e22d5951e0db','[{"role": "user", "content": "What is 3 plus 3?"}, {"role": "assistant", "content": "6"}, {"role": "user", "content": "Say hi"}]','Hello!','key-18','2026-11-21T10:00:49.461Z',NULL);
INSERT INTO "demonstrations" VALUES('01a1fd8d-2a40-73f8-a4e6-7123a44da599','bob','01a1fd8d-2a3e-791f-b40f-4a11c6efc27f','[{"role": "user", "content": "What is 4 plus 4?"}, {"role": "assistant", "content": "8"}, {"role": "user", "content": "Say hi"}]','Hello!','key-24','2026-11-21T10:00:49.472Z',NULL);
INSERT INTO "demonstrations" VALUES('01a1fd8d-2a47-72a0-8249-c503868d3c20','ann','01a1fd8d-2a45-77f8-9484-f9bdd5a10141','[{"role": "user", "content": "What is 5 plus 5?"}, {"role": "assistant", "content": "10"}, {"role": "user", "content": "Say hi"}]','Hello!','key-29','2026-11-21T10:00:49.479Z',NULL);
INSERT INTO "demonstrations" VALUES('01a1fd8d-2a49-7059-abd5-26395899b059','ann',NULL,'[{"role": "user", "content": "Capital of France?"}]','Paris','key-31','2026-11-21T10:00:49.481Z',NULL);
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
    ) STRICT;
INSERT INTO "messages" VALUES('01a1fd8d-2a19-76e9-a08d-195205d73cca','01a1fd8d-2a18-7f82-8481-f7efdc99fa6f',NULL,'user','What is 0 plus 0?',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.433Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a1a-7174-9ad2-8c135a61240a','01a1fd8d-2a18-7f82-8481-f7efdc99fa6f','01a1fd8d-2a19-76e9-a08d-195205d73cca','assistant','one','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a19-7fa8-b9ef-bd1e7d9a742c','a','2026-11-21T10:00:49.434Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a1a-7374-81be-a37515c740c5','01a1fd8d-2a18-7f82-8481-f7efdc99fa6f','01a1fd8d-2a19-76e9-a08d-195205d73cca','assistant','0','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a19-7fa8-b9ef-bd1e7d9a742c','b','2026-11-21T10:00:49.434Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a1b-75ce-aef5-d2c82fd71bd4','01a1fd8d-2a18-7f82-8481-f7efdc99fa6f','01a1fd8d-2a1a-7374-81be-a37515c740c5','user','Say hi',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.435Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a1b-7e77-a416-69bbb2b1b207','01a1fd8d-2a18-7f82-8481-f7efdc99fa6f','01a1fd8d-2a1b-75ce-aef5-d2c82fd71bd4','assistant','hi','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.435Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a1c-744b-b9b8-ff46d94577f2','01a1fd8d-2a18-7f82-8481-f7efdc99fa6f','01a1fd8d-2a1b-75ce-aef5-d2c82fd71bd4','assistant','no','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.436Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a1e-767a-8b7e-97aa51c639c3','01a1fd8d-2a18-7f82-8481-f7efdc99fa6f','01a1fd8d-2a1b-75ce-aef5-d2c82fd71bd4','assistant','x',NULL,NULL,NULL,NULL,'01a1fd8d-2a1e-751e-a003-ef918973fa93','a','2026-11-21T10:00:49.438Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a1e-78a6-bf72-1aa22f5c6d56','01a1fd8d-2a18-7f82-8481-f7efdc99fa6f','01a1fd8d-2a1b-75ce-aef5-d2c82fd71bd4','assistant','y',NULL,NULL,NULL,NULL,'01a1fd8d-2a1e-751e-a003-ef918973fa93','b','2026-11-21T10:00:49.438Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a1e-79b1-9bd3-456b69c01884','01a1fd8d-2a18-7f82-8481-f7efdc99fa6f','01a1fd8d-2a1b-75ce-aef5-d2c82fd71bd4','assistant','z',NULL,NULL,NULL,NULL,'01a1fd8d-2a1e-751e-a003-ef918973fa93','c','2026-11-21T10:00:49.438Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a1f-7ff9-8cd4-f29d79315524','01a1fd8d-2a1f-7af2-b6b4-0118ac2ca1b8',NULL,'user','What is 1 plus 1?',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.440Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a20-7978-8290-8729466c6147','01a1fd8d-2a1f-7af2-b6b4-0118ac2ca1b8','01a1fd8d-2a1f-7ff9-8cd4-f29d79315524','assistant','one','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a20-783c-b37f-c6c16578070a','a','2026-11-21T10:00:49.440Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a20-7aa8-a3be-8c655ddc4cac','01a1fd8d-2a1f-7af2-b6b4-0118ac2ca1b8','01a1fd8d-2a1f-7ff9-8cd4-f29d79315524','assistant','2','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a20-783c-b37f-c6c16578070a','b','2026-11-21T10:00:49.440Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a21-7afc-b6f5-269db4da3112','01a1fd8d-2a1f-7af2-b6b4-0118ac2ca1b8','01a1fd8d-2a20-7aa8-a3be-8c655ddc4cac','user','Say hi',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.441Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a22-7443-af8a-344cf9f3e17a','01a1fd8d-2a1f-7af2-b6b4-0118ac2ca1b8','01a1fd8d-2a21-7afc-b6f5-269db4da3112','assistant','hi','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.442Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a22-7bf6-89d7-d15207c5a871','01a1fd8d-2a1f-7af2-b6b4-0118ac2ca1b8','01a1fd8d-2a21-7afc-b6f5-269db4da3112','assistant','no','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.442Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a24-7ea0-83ac-7543d8c1d6a4','01a1fd8d-2a1f-7af2-b6b4-0118ac2ca1b8','01a1fd8d-2a21-7afc-b6f5-269db4da3112','assistant','x',NULL,NULL,NULL,NULL,'01a1fd8d-2a24-7d59-80e7-705c5bb5ad2d','a','2026-11-21T10:00:49.444Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a24-7ff6-913a-5cbdcb1f6b2f','01a1fd8d-2a1f-7af2-b6b4-0118ac2ca1b8','01a1fd8d-2a21-7afc-b6f5-269db4da3112','assistant','y',NULL,NULL,NULL,NULL,'01a1fd8d-2a24-7d59-80e7-705c5bb5ad2d','b','2026-11-21T10:00:49.445Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a25-70d3-8676-04f695aa223b','01a1fd8d-2a1f-7af2-b6b4-0118ac2ca1b8','01a1fd8d-2a21-7afc-b6f5-269db4da3112','assistant','z',NULL,NULL,NULL,NULL,'01a1fd8d-2a24-7d59-80e7-705c5bb5ad2d','c','2026-11-21T10:00:49.445Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a26-7b63-bb15-b381665567a8','01a1fd8d-2a26-748f-98fb-c070e30722e0',NULL,'user','What is 2 plus 2?',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.446Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a27-74de-80b1-ffa8b54054a5','01a1fd8d-2a26-748f-98fb-c070e30722e0','01a1fd8d-2a26-7b63-bb15-b381665567a8','assistant','one','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a27-73a7-a05c-1a8443392104','a','2026-11-21T10:00:49.447Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a27-7649-a89c-0755599e4b9b','01a1fd8d-2a26-748f-98fb-c070e30722e0','01a1fd8d-2a26-7b63-bb15-b381665567a8','assistant','4','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a27-73a7-a05c-1a8443392104','b','2026-11-21T10:00:49.447Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a28-775c-93bf-84953a0c0141','01a1fd8d-2a26-748f-98fb-c070e30722e0','01a1fd8d-2a27-7649-a89c-0755599e4b9b','user','Say hi',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.448Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a28-7ece-8e40-c705b7dfb3d9','01a1fd8d-2a26-748f-98fb-c070e30722e0','01a1fd8d-2a28-775c-93bf-84953a0c0141','assistant','hi','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.448Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a29-77cc-a550-6a6a8387883b','01a1fd8d-2a26-748f-98fb-c070e30722e0','01a1fd8d-2a28-775c-93bf-84953a0c0141','assistant','no','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.449Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a2f-7894-ad69-17b43cc66c5d','01a1fd8d-2a26-748f-98fb-c070e30722e0','01a1fd8d-2a28-775c-93bf-84953a0c0141','assistant','x',NULL,NULL,NULL,NULL,'01a1fd8d-2a2f-7749-8c02-b5320c3b8725','a','2026-11-21T10:00:49.455Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a2f-79e2-8000-df916d705b5f','01a1fd8d-2a26-748f-98fb-c070e30722e0','01a1fd8d-2a28-775c-93bf-84953a0c0141','assistant','y',NULL,NULL,NULL,NULL,'01a1fd8d-2a2f-7749-8c02-b5320c3b8725','b','2026-11-21T10:00:49.455Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a2f-7ac9-a1a3-63df2238abc5','01a1fd8d-2a26-748f-98fb-c070e30722e0','01a1fd8d-2a28-775c-93bf-84953a0c0141','assistant','z',NULL,NULL,NULL,NULL,'01a1fd8d-2a2f-7749-8c02-b5320c3b8725','c','2026-11-21T10:00:49.455Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a31-730f-b9f2-e5f5aa1df068','01a1fd8d-2a30-7c0d-94b3-beb4d16f6f45',NULL,'user','What is 3 plus 3?',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.457Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a31-7e59-8bbe-ab7c01f80a6a','01a1fd8d-2a30-7c0d-94b3-beb4d16f6f45','01a1fd8d-2a31-730f-b9f2-e5f5aa1df068','assistant','one','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a31-7d17-b6d1-b55c81365260','a','2026-11-21T10:00:49.457Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a31-7faa-8f4e-bee53f5143db','01a1fd8d-2a30-7c0d-94b3-beb4d16f6f45','01a1fd8d-2a31-730f-b9f2-e5f5aa1df068','assistant','6','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a31-7d17-b6d1-b55c81365260','b','2026-11-21T10:00:49.458Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a33-751c-8d57-0bce28e49381','01a1fd8d-2a30-7c0d-94b3-beb4d16f6f45','01a1fd8d-2a31-7faa-8f4e-bee53f5143db','user','Say hi',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.459Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a33-7d2f-8b52-d308bd52975b','01a1fd8d-2a30-7c0d-94b3-beb4d16f6f45','01a1fd8d-2a33-751c-8d57-0bce28e49381','assistant','hi','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.459Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a34-74bb-b899-e22d5951e0db','01a1fd8d-2a30-7c0d-94b3-beb4d16f6f45','01a1fd8d-2a33-751c-8d57-0bce28e49381','assistant','no','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.460Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a36-7840-a641-136c6e72872f','01a1fd8d-2a30-7c0d-94b3-beb4d16f6f45','01a1fd8d-2a33-751c-8d57-0bce28e49381','assistant','x',NULL,NULL,NULL,NULL,'01a1fd8d-2a36-7698-b32a-fc7aad0eea80','a','2026-11-21T10:00:49.462Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a36-7987-98a9-61dae4d1f9f3','01a1fd8d-2a30-7c0d-94b3-beb4d16f6f45','01a1fd8d-2a33-751c-8d57-0bce28e49381','assistant','y',NULL,NULL,NULL,NULL,'01a1fd8d-2a36-7698-b32a-fc7aad0eea80','b','2026-11-21T10:00:49.462Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a36-7a76-88cf-c11a9d400e2a','01a1fd8d-2a30-7c0d-94b3-beb4d16f6f45','01a1fd8d-2a33-751c-8d57-0bce28e49381','assistant','z',NULL,NULL,NULL,NULL,'01a1fd8d-2a36-7698-b32a-fc7aad0eea80','c','2026-11-21T10:00:49.462Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a3b-74e7-90cd-b7e6581919b2','01a1fd8d-2a3a-7dda-9d48-ab8f844268b4',NULL,'user','What is 4 plus 4?',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.467Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a3b-7d4a-a007-2b519b9d881c','01a1fd8d-2a3a-7dda-9d48-ab8f844268b4','01a1fd8d-2a3b-74e7-90cd-b7e6581919b2','assistant','one','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a3b-7c4e-b0a9-6bd6c85e3d71','a','2026-11-21T10:00:49.467Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a3b-7e62-92d1-8e89861b8e6c','01a1fd8d-2a3a-7dda-9d48-ab8f844268b4','01a1fd8d-2a3b-74e7-90cd-b7e6581919b2','assistant','8','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a3b-7c4e-b0a9-6bd6c85e3d71','b','2026-11-21T10:00:49.467Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a3d-7862-8ee0-cc1e67a83acf','01a1fd8d-2a3a-7dda-9d48-ab8f844268b4','01a1fd8d-2a3b-7e62-92d1-8e89861b8e6c','user','Say hi',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.469Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a3e-707b-a657-d5d1caf7b6ea','01a1fd8d-2a3a-7dda-9d48-ab8f844268b4','01a1fd8d-2a3d-7862-8ee0-cc1e67a83acf','assistant','hi','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.470Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a3e-791f-b40f-4a11c6efc27f','01a1fd8d-2a3a-7dda-9d48-ab8f844268b4','01a1fd8d-2a3d-7862-8ee0-cc1e67a83acf','assistant','no','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.470Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a40-7e1a-ab4f-dacc715101d2','01a1fd8d-2a3a-7dda-9d48-ab8f844268b4','01a1fd8d-2a3d-7862-8ee0-cc1e67a83acf','assistant','x',NULL,NULL,NULL,NULL,'01a1fd8d-2a40-7b78-90af-6dc4346ce8cf','a','2026-11-21T10:00:49.472Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a40-7f63-8788-184e88e5e4ef','01a1fd8d-2a3a-7dda-9d48-ab8f844268b4','01a1fd8d-2a3d-7862-8ee0-cc1e67a83acf','assistant','y',NULL,NULL,NULL,NULL,'01a1fd8d-2a40-7b78-90af-6dc4346ce8cf','b','2026-11-21T10:00:49.472Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a41-7051-8ab2-f15392b8b4c6','01a1fd8d-2a3a-7dda-9d48-ab8f844268b4','01a1fd8d-2a3d-7862-8ee0-cc1e67a83acf','assistant','z',NULL,NULL,NULL,NULL,'01a1fd8d-2a40-7b78-90af-6dc4346ce8cf','c','2026-11-21T10:00:49.473Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a42-7bd7-a0f2-31348e44f003','01a1fd8d-2a42-7512-8aec-fe65d63275a0',NULL,'user','What is 5 plus 5?',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.474Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a43-74c7-9b3d-440ad0d39f51','01a1fd8d-2a42-7512-8aec-fe65d63275a0','01a1fd8d-2a42-7bd7-a0f2-31348e44f003','assistant','one','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a43-739c-80ca-a1c463eb80ed','a','2026-11-21T10:00:49.475Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a43-760c-ab8e-366310380988','01a1fd8d-2a42-7512-8aec-fe65d63275a0','01a1fd8d-2a42-7bd7-a0f2-31348e44f003','assistant','10','policy-000000',NULL,NULL,NULL,'01a1fd8d-2a43-739c-80ca-a1c463eb80ed','b','2026-11-21T10:00:49.475Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a44-75f9-9e49-53588bce1a5d','01a1fd8d-2a42-7512-8aec-fe65d63275a0','01a1fd8d-2a43-760c-ab8e-366310380988','user','Say hi',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.476Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a44-7f4f-8918-d8c455efa208','01a1fd8d-2a42-7512-8aec-fe65d63275a0','01a1fd8d-2a44-75f9-9e49-53588bce1a5d','assistant','hi','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.477Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a45-77f8-9484-f9bdd5a10141','01a1fd8d-2a42-7512-8aec-fe65d63275a0','01a1fd8d-2a44-75f9-9e49-53588bce1a5d','assistant','no','policy-000000',NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:49.477Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a47-7b26-8bbb-639392ca8461','01a1fd8d-2a42-7512-8aec-fe65d63275a0','01a1fd8d-2a44-75f9-9e49-53588bce1a5d','assistant','x',NULL,NULL,NULL,NULL,'01a1fd8d-2a47-7a25-9ba3-c1c3220b2186','a','2026-11-21T10:00:49.479Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a47-7c5c-b6d9-c549064fa816','01a1fd8d-2a42-7512-8aec-fe65d63275a0','01a1fd8d-2a44-75f9-9e49-53588bce1a5d','assistant','y',NULL,NULL,NULL,NULL,'01a1fd8d-2a47-7a25-9ba3-c1c3220b2186','b','2026-11-21T10:00:49.479Z');
INSERT INTO "messages" VALUES('01a1fd8d-2a47-7d41-8b61-f7b7100966d4','01a1fd8d-2a42-7512-8aec-fe65d63275a0','01a1fd8d-2a44-75f9-9e49-53588bce1a5d','assistant','z',NULL,NULL,NULL,NULL,'01a1fd8d-2a47-7a25-9ba3-c1c3220b2186','c','2026-11-21T10:00:49.479Z');
CREATE TABLE rankings (
        id TEXT PRIMARY KEY,
        candidates_id TEXT NOT NULL REFERENCES candidates (id),
        rater_id TEXT NOT NULL REFERENCES raters (id),
        "order" TEXT NOT NULL,
        idempotency_key TEXT NOT NULL,
        created_at TEXT NOT NULL,
        superseded_at TEXT,
        UNIQUE (rater_id, idempotency_key)
    ) STRICT;
INSERT INTO "rankings" VALUES('01a1fd8d-2a1f-72d9-b40c-79ac931fed23','01a1fd8d-2a1e-751e-a003-ef918973fa93','bob','[["b"], ["a", "c"]]','key-4','2026-11-21T10:00:49.439Z',NULL);
INSERT INTO "rankings" VALUES('01a1fd8d-2a25-7c0c-a8a7-91396a7166a5','01a1fd8d-2a24-7d59-80e7-705c5bb5ad2d','ann','[["b"], ["a", "c"]]','key-9','2026-11-21T10:00:49.445Z',NULL);
INSERT INTO "rankings" VALUES('01a1fd8d-2a30-7490-be73-62cad6f8219d','01a1fd8d-2a2f-7749-8c02-b5320c3b8725','bob','[["b"], ["a", "c"]]','key-14','2026-11-21T10:00:49.456Z',NULL);
INSERT INTO "rankings" VALUES('01a1fd8d-2a37-739d-a81c-3f8eaa12aaa7','01a1fd8d-2a36-7698-b32a-fc7aad0eea80','ann','[["b"], ["a", "c"]]','key-19','2026-11-21T10:00:49.463Z',NULL);
INSERT INTO "rankings" VALUES('01a1fd8d-2a41-7c25-acd1-d06806114d61','01a1fd8d-2a40-7b78-90af-6dc4346ce8cf','bob','[["b"], ["a", "c"]]','key-25','2026-11-21T10:00:49.473Z',NULL);
INSERT INTO "rankings" VALUES('01a1fd8d-2a48-78c2-bf1d-e70404962ade','01a1fd8d-2a47-7a25-9ba3-c1c3220b2186','ann','[["b"], ["a", "c"]]','key-30','2026-11-21T10:00:49.480Z',NULL);
CREATE TABLE raters (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('person', 'simulated', 'operator')),
        consent TEXT,
        created_at TEXT NOT NULL
    ) STRICT;
INSERT INTO "raters" VALUES('ann','person','v1','2026-11-21T10:00:49.432Z');
INSERT INTO "raters" VALUES('bob','person','v1','2026-11-21T10:00:49.432Z');
CREATE TABLE serving (
        id INTEGER PRIMARY KEY,
        adapter TEXT NOT NULL REFERENCES adapters (name),
        previous TEXT REFERENCES adapters (name),
        since TEXT NOT NULL,
        "by" TEXT NOT NULL
    ) STRICT;
INSERT INTO "serving" VALUES(1,'policy-000000',NULL,'2026-11-21T10:00:49.429Z','installation');
CREATE TABLE thumbs (
        id TEXT PRIMARY KEY,
        message_id TEXT NOT NULL REFERENCES messages (id),
        rater_id TEXT NOT NULL REFERENCES raters (id),
        value INTEGER NOT NULL CHECK (value IN (-1, 0, 1)),
        tags TEXT NOT NULL,
        comment TEXT NOT NULL,
        idempotency_key TEXT NOT NULL,
        created_at TEXT NOT NULL,
        superseded_at TEXT,
        UNIQUE (rater_id, idempotency_key)
    ) STRICT;
INSERT INTO "thumbs" VALUES('01a1fd8d-2a1c-7b3d-b167-b42db8d9baba','01a1fd8d-2a1b-7e77-a416-69bbb2b1b207','bob',1,'["helpful"]','','key-1','2026-11-21T10:00:49.436Z',NULL);
INSERT INTO "thumbs" VALUES('01a1fd8d-2a1d-732c-a213-63cdd357c227','01a1fd8d-2a1c-744b-b9b8-ff46d94577f2','bob',-1,'[]','rude','key-2','2026-11-21T10:00:49.437Z',NULL);
INSERT INTO "thumbs" VALUES('01a1fd8d-2a23-756b-8507-3918d981c4f9','01a1fd8d-2a22-7443-af8a-344cf9f3e17a','ann',1,'["helpful"]','','key-6','2026-11-21T10:00:49.443Z',NULL);
INSERT INTO "thumbs" VALUES('01a1fd8d-2a23-7d2f-8225-9337f5dec989','01a1fd8d-2a22-7bf6-89d7-d15207c5a871','ann',-1,'[]','rude','key-7','2026-11-21T10:00:49.443Z',NULL);
INSERT INTO "thumbs" VALUES('01a1fd8d-2a29-7fc4-94f6-71b01c7d97c4','01a1fd8d-2a28-7ece-8e40-c705b7dfb3d9','bob',1,'["helpful"]','','key-11','2026-11-21T10:00:49.449Z',NULL);
INSERT INTO "thumbs" VALUES('01a1fd8d-2a2a-7808-8eb0-15caa5ede23e','01a1fd8d-2a29-77cc-a550-6a6a8387883b','bob',-1,'[]','rude','key-12','2026-11-21T10:00:49.450Z',NULL);
INSERT INTO "thumbs" VALUES('01a1fd8d-2a34-7cac-b973-2c9fa9484217','01a1fd8d-2a33-7d2f-8b52-d308bd52975b','ann',1,'["helpful"]','','key-16','2026-11-21T10:00:49.460Z',NULL);
INSERT INTO "thumbs" VALUES('01a1fd8d-2a35-7467-87ba-c7b94413e5e4','01a1fd8d-2a34-74bb-b899-e22d5951e0db','ann',-1,'[]','rude','key-17','2026-11-21T10:00:49.461Z',NULL);
INSERT INTO "thumbs" VALUES('01a1fd8d-2a3f-718d-9655-d9fe70943813','01a1fd8d-2a3e-707b-a657-d5d1caf7b6ea','bob',1,'["helpful"]','','key-22','2026-11-21T10:00:49.471Z',NULL);
INSERT INTO "thumbs" VALUES('01a1fd8d-2a3f-78e8-b5e8-713ac92b2865','01a1fd8d-2a3e-791f-b40f-4a11c6efc27f','bob',-1,'[]','rude','key-23','2026-11-21T10:00:49.471Z',NULL);
INSERT INTO "thumbs" VALUES('01a1fd8d-2a46-70b7-9193-c7eb568fd6da','01a1fd8d-2a44-7f4f-8918-d8c455efa208','ann',1,'["helpful"]','','key-27','2026-11-21T10:00:49.478Z',NULL);
INSERT INTO "thumbs" VALUES('01a1fd8d-2a46-7926-83fd-11c7a474f03f','01a1fd8d-2a45-77f8-9484-f9bdd5a10141','ann',-1,'[]','rude','key-28','2026-11-21T10:00:49.478Z',NULL);
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
CREATE INDEX comparisons_of_rater ON comparisons (rater_id);
CREATE INDEX comparisons_of_event ON comparison_events (event_id);
CREATE UNIQUE INDEX cycles_running ON cycles (state) WHERE state = 'running';
CREATE INDEX cycles_of_comparison ON cycle_comparisons (comparison_id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('cycles',1);
COMMIT;
