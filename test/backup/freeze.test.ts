import { expect, test } from 'vitest';
import { joinFreezes } from '../../src/backup/freeze.ts';
import { groupByHold } from '../../src/backup/rules.ts';
import type { Hook, HookService, PlannedSource } from '../../src/plan/model.ts';

const argv = (word: string): Hook => ({ argv: [word] });

/** `kind service`, with more members. */
const source = (kind: 'postgres' | 'volume', service: string, more: object = {}): PlannedSource =>
  ({
    ...{ kind, name: `${service}.${kind}`, project: 'shop', service, containerId: service, containerName: service },
    ...(kind === 'volume' ? { stop: [] } : {}),
    ...more,
  }) as unknown as PlannedSource;

/** What is captured in which order: `[web( db.postgres web.volume )]`. */
const show = (...sources: PlannedSource[]) => showWith([], ...sources);
const showWith = (services: HookService[], ...sources: PlannedSource[]) =>
  joinFreezes(groupByHold(sources), services).map(({ hooks, groups }) => {
    const inner = groups.map(({ hold, sources: all }) => {
      const names = all.map(({ name }) => name).join(' ');
      if (!hold) return names;
      return `${hold.pre ? 'pre ' : ''}${hold.stop.length > 0 ? 'stop ' : ''}${names}`;
    });
    return `${hooks.map(({ hold }) => `${hold.container.name}(`).join('')}${inner.join(', ')}`;
  });

test('the commands of a service surround the databases that it depends on, and its stop does not', () => {
  const stop = [{ id: 'web', name: 'web' }];
  const web = source('volume', 'web', { pre: argv('freeze'), post: argv('thaw'), dependsOn: ['api', 'db'], stop });
  expect(show(web, source('postgres', 'db'), source('volume', 'files'), source('postgres', 'other'))).toEqual([
    'other.postgres',
    'web(db.postgres, stop web.volume',
    'files.volume',
  ]);
});

test('services that share a database share the freeze, and the own commands of the database stay around its dump', () => {
  const hook = { pre: argv('freeze') };
  const db = source('postgres', 'db', hook);
  const [a, b] = ['a', 'b'].map((name) => source('volume', name, { ...hook, dependsOn: ['db'] }));
  expect(show(a as PlannedSource, b as PlannedSource, db)).toEqual(['a(b(pre db.postgres, a.volume, b.volume']);
});

test('without commands, or without the database in the run, nothing is joined', () => {
  const db = source('postgres', 'db');
  expect(show(source('volume', 'web', { dependsOn: ['db'] }), db)).toEqual(['db.postgres', 'web.volume']);
  expect(show(source('volume', 'web', { pre: argv('freeze'), dependsOn: ['db'] }))).toEqual(['pre web.volume']);
  const elsewhere = source('postgres', 'db', { project: 'blog', containerId: 'blog-db' });
  expect(show(source('volume', 'web', { pre: argv('freeze'), dependsOn: ['db'] }), elsewhere)).toEqual([
    'db.postgres',
    'pre web.volume',
  ]);
});

test('the commands of a service surround a database whose run does not include the service', () => {
  const hook = { pre: argv('freeze'), dependsOn: ['db'] };
  const web = source('volume', 'web', hook);
  const app = { ...source('volume', 'app', hook), kind: undefined } as unknown as HookService;
  const db = source('postgres', 'db');
  expect(showWith([web, app, source('volume', 'plain')], db, source('volume', 'files'))).toEqual([
    'web(app(db.postgres',
    'files.volume',
  ]);
  // Without the database, nothing runs. With its own sources, the commands run once.
  expect(showWith([web, app], source('volume', 'files'))).toEqual(['files.volume']);
  expect(showWith([web], db, web)).toEqual(['web(db.postgres, web.volume']);
});
