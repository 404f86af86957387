import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import { readArchive } from '../../../../src/sources/postgres/archive/archive.ts';
import { tablePattern } from '../../../../src/sources/postgres/tables/table-commands.ts';
import { derivedName, freeName } from '../../../../src/sources/postgres/tables/table-names.ts';
import { findTable, partsOf } from '../../../../src/sources/postgres/tables/table-parts.ts';

const dumps = [13, 17].map((version) => ({
  version,
  entries: readArchive(readFileSync(path.join(import.meta.dirname, `../dumps/${version}.toc.dat`))),
}));

describe.each(dumps)('a table in a dump of Postgres $version', ({ entries }) => {
  const said = (asked: string) => {
    try {
      const { schema, tag } = findTable(entries, asked);
      return JSON.stringify([schema, tag]);
    } catch (error) {
      if (!(error instanceof LifeboatError)) throw error;
      return `${error.code}: ${error.message}. ${error.hint}`;
    }
  };
  const parts = (copy: boolean, ...asked: string[]) => {
    const roots = asked.map((name) => findTable(entries, name));
    const found = partsOf(entries, roots, { copy });
    const kindOf = new Map(entries.map((entry) => [entry.dumpId, entry]));
    const late = found.entries.map((id) => kindOf.get(id)!).filter(({ section }) => section !== 'pre-data');
    return { ...found, late: late.map(({ kind, tag }) => `${kind} ${tag}`) };
  };

  it('is found by its name, whatever characters that has', () => {
    expect(said('public.orders')).toBe('["public","orders"]');
    expect(said('orders')).toBe('["public","orders"]');
    expect(said('a.orders')).toBe('["a","orders"]');
    expect(said('odd "$(x)\n*;')).toBe(JSON.stringify(['public', 'odd "$(x)\n*;']));
    expect(said('"a.b"."c"')).toBe('["a.b","c"]');
    expect(said('"a"."b.c"')).toBe('["a","b.c"]');
    expect(said('a.b.c')).toBe(
      'PG_TABLE_UNKNOWN: a.b.c may be any of several tables. Choose one: "a"."b.c" or "a.b"."c".',
    );
    expect(said('public.order')).toBe(
      'PG_TABLE_UNKNOWN: the snapshot has no table public.order. Did you mean public.orders?',
    );
    expect(said('b.customers')).toMatch(/no table b\.customers\. Did you mean public\.customers\?$/);
    expect(said('public.ORDERZ')).toMatch(/^PG_TABLE_UNKNOWN/);
    expect(said('orders*')).toMatch(/^PG_TABLE_UNKNOWN/);
    expect(said('public.v')).toMatch(/^PG_TABLE_UNKNOWN: public\.v is a view, not a table/);
    expect(said('mv')).toMatch(/^PG_TABLE_UNKNOWN: mv is a materialized view, not a table/);
  });

  it('is found by its name in the quotes of SQL, and in upper case without quotes', () => {
    for (const asked of [
      'public."orders"',
      '"public"."orders"',
      '"public".orders',
      '"orders"',
      'ORDERS',
      'Public.Orders',
    ])
      expect(said(asked), asked).toBe('["public","orders"]');
    expect(said('"a.b".c')).toBe('["a.b","c"]');
    expect(said('a."b.c"')).toBe('["a","b.c"]');
    expect(said('"odd ""$(x)\n*;"')).toBe(JSON.stringify(['public', 'odd "$(x)\n*;']));
    // In quotes, case and dots count.
    expect(said('public."ORDERS"')).toMatch(/no table public\."ORDERS"\. Did you mean public\.orders\?$/);
    expect(said('"public.orders"')).toMatch(/^PG_TABLE_UNKNOWN/);
    expect(said('public."order"')).toMatch(/Did you mean public\.orders\?$/);
    expect(said('public."orders')).toMatch(/^PG_TABLE_UNKNOWN/);
    expect(said('public."v"')).toMatch(/is a view, not a table/);
  });

  it('is the one whose name is as written, before the one in lower case', () => {
    const table = entries.find(({ kind, tag }) => kind === 'TABLE' && tag === 'customers')!;
    const both = [...entries, { ...table, dumpId: 1, tag: 'Customers' }, { ...table, dumpId: 2, tag: 'Only' }];
    const tagOf = (asked: string) => findTable(both, asked).tag;
    expect(['Customers', 'customers', 'CUSTOMERS', 'public."Customers"', '"Only"', 'Only'].map(tagOf)).toEqual([
      'Customers',
      'customers',
      'customers',
      'Customers',
      'Only',
      'Only',
    ]);
    expect(() => findTable(both, 'only')).toThrow(/no table only/);
  });

  it('includes the objects that belong to it, and no rows of other tables', () => {
    const found = parts(false, 'public.orders');
    expect(
      found.late.filter((text) => !/^(SEQUENCE SET|ACL|COMMENT (SCHEMA|DATABASE|EXTENSION)) /.test(text)).sort(),
    ).toEqual([
      'COMMENT INDEX orders_c',
      'CONSTRAINT orders orders_pkey',
      'INDEX orders_c',
      'POLICY orders p',
      'ROW SECURITY orders',
      'RULE orders r',
      'STATISTICS orders_st',
      'TABLE DATA orders',
      'TRIGGER orders tg',
    ]);
    expect(found.late).toContain('ACL TABLE orders');
    expect(found.files).toEqual([
      entries.find(({ kind, tag, schema }) => kind === 'TABLE DATA' && tag === 'orders' && schema === 'public')?.file,
    ]);
    expect(found.foreignKeys).toEqual([
      {
        name: 'orders_c_fkey',
        sql: 'ALTER TABLE ONLY public.orders\n    ADD CONSTRAINT orders_c_fkey FOREIGN KEY (c) REFERENCES public.customers(id)',
        table: found.tables[0],
      },
    ]);
    const { keysOfOthers, views, publications, triggers } = found;
    expect({ keysOfOthers, views, publications }).toEqual({
      keysOfOthers: [
        {
          what: 'public.lines lines_o_fkey',
          sql: 'ALTER TABLE ONLY public.lines\n    ADD CONSTRAINT lines_o_fkey FOREIGN KEY (o) REFERENCES public.orders(id)',
        },
      ],
      views: ['public.v'],
      publications: ['pub orders'],
    });
    expect(triggers.sort()).toEqual(['orders r', 'orders tg']);
    // Entries are restored in the order of the dump.
    const order = entries.map(({ dumpId }) => dumpId);
    expect(found.entries).toEqual(order.filter((id) => found.entries.includes(id)));
  });

  it('excludes triggers and rules for a copy', () => {
    const both = [parts(false, 'orders'), parts(true, 'orders')].map(({ late }) => late);
    expect(both[0]?.filter((text) => !both[1]?.includes(text)).sort()).toEqual(['RULE orders r', 'TRIGGER orders tg']);
  });

  it('includes its partitions, without tables that inherit from it', () => {
    const events = parts(false, 'events');
    expect(events.tables.map(({ name }) => name).sort()).toEqual(['events', 'events_1', 'events_1a', 'events_rest']);
    expect(new Set(events.tables.map(({ root }) => root)).size).toBe(1);
    expect(events.files).toHaveLength(2);
    expect(events.late.filter((text) => text.startsWith('INDEX ATTACH'))).toHaveLength(3);
    expect(parts(false, 'parent').tables.map(({ name }) => name)).toEqual(['parent']);
    const partition = parts(false, 'events_rest');
    expect(partition.tables.map(({ name }) => name)).toEqual(['events_rest']);
    expect(partition.late.filter((text) => /ATTACH|events/.test(text))).toEqual([
      'TABLE DATA events_rest',
      'CONSTRAINT events_rest events_rest_pkey',
    ]);
  });

  it('is refused if it is a hypertable, and excludes extensions that cannot be created in a working database', () => {
    const table = entries.find(({ kind, tag }) => kind === 'TABLE' && tag === 'customers')!;
    const dependencies = [table.dumpId];
    const chunk = { ...table, dumpId: 1, schema: '_timescaledb_internal', tag: '_hyper_1', dependencies };
    expect(() => findTable([...entries, chunk], 'customers')).toThrow(/is a hypertable/);
    const schema = { ...table, dumpId: 1, kind: 'SCHEMA', schema: '', tag: 'cron', dependencies: [] };
    const extension = { ...schema, dumpId: 2, kind: 'EXTENSION', tag: 'pg_cron' };
    const comment = { ...schema, dumpId: 3, kind: 'COMMENT', section: 'none' as const, dependencies: [2] };
    const more = [schema, extension, comment, ...entries];
    const ids = (without: { extension: string; schema: string }[]) =>
      partsOf(more, [table], { copy: false, without }).entries.filter((id) => id < 4);
    expect(ids([])).toEqual([1, 2, 3]);
    expect(ids([{ extension: 'pg_cron', schema: 'cron' }])).toEqual([]);
  });

  it('has its own foreign keys to itself', () => {
    const { foreignKeys, keysOfOthers } = parts(false, 'odd "$(x)\n*;');
    expect(foreignKeys.map(({ name }) => name)).toHaveLength(1);
    expect(keysOfOthers).toEqual([]);
  });
});

describe('names of restored tables', () => {
  it('are derived from the table, and are short enough', () => {
    expect(derivedName('orders_pkey', 'orders', 'then')).toBe('then_pkey');
    expect(derivedName('by_customer', 'orders', 'then')).toBe('then_by_customer');
    expect(freeName('a', new Set(['a', 'a_1']))).toBe('a_2');
    const long = 'ä'.repeat(40);
    expect(freeName(long, new Set())).toBe('ä'.repeat(31));
    expect(Buffer.byteLength(freeName(long, new Set(['ä'.repeat(31)])))).toBe(62);
  });

  it('are quoted for the patterns of pg_dump', () => {
    expect(tablePattern('My.Schema', 'a"b*')).toBe('"My.Schema"."a""b*"');
  });
});
