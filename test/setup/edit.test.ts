import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { agentService } from '../../src/setup/agent-service.ts';
import { addLabels as addAll, addService } from '../../src/setup/edit.ts';

const addLabels = (text: string, service: string, labels: Record<string, string>) =>
  addAll(text, new Map([[service, labels]]));

const OURS = { 'lifeboat.postgres': 'true', 'lifeboat.volumes': 'media' };

/** Returns the lines that a change adds and removes. Every other line must stay as it is, in its order. */
function changes(before: string, after: string | undefined): { added: string[]; removed: string[] } {
  const rest = (after ?? '').split('\n');
  const removed: string[] = [];
  const kept: string[] = [];
  const added: string[] = [];
  for (const line of before.split('\n')) {
    const at = rest.indexOf(line, kept.length + added.length);
    if (at < 0) {
      removed.push(line);
      continue;
    }
    added.push(...rest.slice(kept.length + added.length, at));
    kept.push(line);
  }
  added.push(...rest.slice(kept.length + added.length));
  return { added, removed };
}

describe('labels are added to a service, and nothing else changes', () => {
  test.each([
    [
      'no labels yet',
      'services:\n  # the app\n  web:\n    image: x   # pinned\n\n  # the database\n  db:\n    image: y\n',
    ],
    ['a mapping', 'services:\n  web:\n    labels:\n      a.b: "1"   # keep\n    image: x\n'],
    ['an indent of four', 'services:\n    web:\n        image: x\n        labels:\n            a: b\n'],
    ['a block scalar at the end', 'services:\n  web:\n    command: |+\n      one\n      two\n\nvolumes: {}\n'],
    ['no newline at the end', 'services:\n  web:\n    image: x'],
    ['a comment after the last service', 'services:\n  web:\n    image: x\n# the end\n'],
    ['labels without a value', 'services:\n  web:\n    labels:\n    image: x\n'],
    ['Windows lines', 'services:\r\n  web:\r\n    image: x\r\n    labels:\r\n      a: b\r\n'],
    ['keys in quotes', '"services":\n  "web":\n    "image": x\n'],
  ])('%s', (_, text) => {
    const changed = addLabels(text, 'web', OURS);
    const { added, removed } = changes(text, changed);
    expect(removed).toEqual([]);
    expect(added.filter((line) => line.trim() !== '' && !/lifeboat\.|labels:/.test(line))).toEqual([]);
    expect(parse(changed ?? '').services.web.labels).toMatchObject(OURS);
    if (text.includes('\r\n')) expect(changed?.replaceAll('\r\n', '')).not.toContain('\n');
  });

  test('a list', () => {
    const text = 'services:\n  web:\n    labels:\n      - a=b\n    image: x\n';
    expect(parse(addLabels(text, 'web', OURS) ?? '').services.web.labels).toEqual([
      ...['a=b', 'lifeboat.postgres=true', 'lifeboat.volumes=media'],
    ]);
    expect(changes(text, addLabels(text, 'web', OURS)).removed).toEqual([]);
  });

  test('labels in braces and brackets', () => {
    const braces = addLabels('services:\n  web:\n    labels: { a: b }\n', 'web', OURS);
    expect(parse(braces ?? '').services.web.labels).toEqual({ a: 'b', ...OURS });
    const brackets = addLabels('services:\n  web:\n    labels: [a=b]\n', 'web', OURS);
    expect(parse(brackets ?? '').services.web.labels).toHaveLength(3);
    const service = addLabels('services:\n  web: { image: x }\n', 'web', OURS);
    expect(parse(service ?? '').services.web).toEqual({ image: 'x', labels: OURS });
    const empty = addLabels('services:\n  web: {}\n', 'web', OURS);
    expect(parse(empty ?? '').services.web).toEqual({ labels: OURS });
  });
});

test('labels of several services are added at once, in any order', () => {
  const text = 'services:\n  web:\n    image: x\n  db: { image: y }\n\n  last:\n    image: z';
  const labels = new Map(['last', 'web', 'db'].map((name) => [name, { 'lifeboat.volumes': name }]));
  const { services } = parse(addAll(text, labels) ?? '');
  for (const name of ['last', 'web', 'db']) expect(services[name].labels).toEqual({ 'lifeboat.volumes': name });
  expect(addAll(text, new Map([...labels, ['nope', OURS]]))).toBeUndefined();
});

describe('anchors keep their meaning', () => {
  const read = (text: string | undefined) => parse(text ?? '', { merge: true });

  test('an alias of labels becomes a merge', () => {
    const text = 'x-l: &l\n  a: b\nservices:\n  web:\n    labels: *l\n    image: x\n';
    const changed = addLabels(text, 'web', OURS);
    expect(read(changed).services.web.labels).toEqual({ a: 'b', ...OURS });
    expect(changed).toContain('<<: *l');
  });

  test('labels that a merge brings are repeated, because a new `labels:` would hide them', () => {
    const text = 'x-c: &c\n  restart: always\n  labels:\n    a: b\nservices:\n  web:\n    <<: *c\n    image: x\n';
    const changed = addLabels(text, 'web', OURS);
    expect(read(changed).services.web).toEqual({ restart: 'always', image: 'x', labels: { a: 'b', ...OURS } });
    expect(read(changed)['x-c']).toEqual({ restart: 'always', labels: { a: 'b' } });
  });

  test('an anchor that others use gets no labels by accident', () => {
    const text = 'services:\n  web: &web\n    image: x\n  worker:\n    <<: *web\n    command: work\n';
    // The labels would reach `worker` too: the change means more than what was asked for.
    expect(addLabels(text, 'web', OURS)).toBeUndefined();
    expect(read(addLabels(text, 'worker', OURS)).services.web).toEqual({ image: 'x' });
  });

  test('a service that is an alias has to be changed by hand', () => {
    expect(addLabels('x-w: &w\n  image: x\nservices:\n  web: *w\n', 'web', OURS)).toBeUndefined();
  });
});

describe('the service of Lifeboat', () => {
  const lines = agentService('lifeboat:latest');
  const agent = { lines, volume: 'lifeboat-spool' };

  test.each([
    ['no volumes', 'services:\n  web:\n    image: x\n'],
    ['volumes', 'services:\n  web:\n    image: x\n\nvolumes:\n  media:\n\nnetworks:\n  front:\n'],
    ['volumes in braces', 'services:\n  web:\n    image: x\nvolumes: { media: {} }\n'],
    ['volumes without a value', 'services:\n  web:\n    image: x\nvolumes:\n'],
    ['an indent of four', 'services:\n    web:\n        image: x\nvolumes:\n    media: {}\n'],
    ['no newline at the end', 'services:\n  web:\n    image: x'],
    ['services last', 'volumes:\n  media:\nservices:\n  web:\n    image: x\n# end\n'],
  ])('%s', (_, text) => {
    const changed = parse(addService(text, 'lifeboat', agent) ?? '');
    expect(changed.services.lifeboat).toEqual(parse(lines.join('\n')));
    expect(Object.keys(changed.volumes)).toContain('lifeboat-spool');
    expect(changed.services.web).toEqual({ image: 'x' });
  });

  test('is the one that README.md shows, without its comments', () => {
    expect(parse(lines.join('\n')).volumes).toHaveLength(5);
  });

  test('is refused for a file with two documents', () => {
    expect(addService('services:\n  web:\n    image: x\n---\nservices: {}\n', 'lifeboat', agent)).toBeUndefined();
  });
});
