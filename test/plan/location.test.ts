import { describe, expect, test } from 'vitest';
import { misplaced, nameOf, overlap, parseCopies, withOwnNames } from '../../src/plan/location.ts';

const copies = (text: string) => {
  const parsed = parseCopies(text);
  if ('problem' in parsed) throw new Error(parsed.problem);
  return parsed.value;
};
const problem = (text: string) => {
  const parsed = parseCopies(text);
  return 'problem' in parsed ? parsed : undefined;
};

describe('locations of copies', () => {
  test('are separated by spaces, lines or commas, each with its own options', () => {
    const s3 = 's3://acme/shop?region=eu-central-1&storage-class=STANDARD_IA';
    expect(copies(`/nas/b/, ${s3}&keep=90d+12m\n/mnt?keep=last+3`)).toEqual([
      { location: '/nas/b', name: '/nas/b' },
      { location: s3, name: 's3://acme/shop', keep: { daily: 90, monthly: 12 } },
      { location: '/mnt', name: '/mnt', keep: { last: 3 } },
    ]);
    expect(copies('s3://acme/shop/?keep=7d')[0]).toMatchObject({ location: 's3://acme/shop/', name: 's3://acme/shop' });
  });

  test.each([
    ['copy', 'is not an absolute path'],
    ['/nas?keep=90d 12m', '(number 2) is not an absolute path'],
    ['/nas?keep=90', 'has a keep policy that has a number without a unit'],
    ['/nas?keep=', 'has a keep policy that is empty'],
    ['/nas?keep=7d&keep=8d', 'has keep twice'],
    ['/nas?region=x', 'has an unknown option after the ?'],
    ['s3://acme/shop?reigon=x', 'has an unknown option after the ?'],
    ['/nas /nas', '(number 2) overlaps another copy: /nas'],
    ['/nas /nas/deeper', '(number 2) overlaps another copy: /nas'],
    ['s3://acme/shop?region=a s3://acme/shop?endpoint=https://x', '(number 2) overlaps another copy: s3://acme/shop'],
  ])('%s is refused', (text, why) => {
    expect(problem(text)?.problem).toBe(why);
  });

  test('have another name than a destination with the same bucket on another server', () => {
    const nameBeside = (destination: string, text: string) => withOwnNames(copies(text), destination)[0]?.name;
    const minio = 's3://acme/shop?path-style=true&endpoint=https://s3.example.org:9000';
    expect(nameBeside('s3://acme/shop?region=eu-central-1', `${minio}&keep=7d`)).toBe(
      's3://acme/shop?endpoint=https://s3.example.org:9000',
    );
    expect(nameBeside(minio, 's3://acme/shop/?region=eu-central-1')).toBe('s3://acme/shop?region=eu-central-1');
    expect(nameBeside(minio, 's3://acme/shop')).toBe('s3://acme/shop (AWS)');
    expect(nameBeside(minio, 's3://acme/blog?region=eu-central-1')).toBe('s3://acme/blog');
    expect(nameBeside('/backups', '/nas')).toBe('/nas');
  });

  test('a key in one does not appear in messages', () => {
    for (const text of ['s3://AKIA:canary@acme/shop', 's3://acme/shop?region=canary!', '/nas?key=canary']) {
      expect(problem(text)?.hidden, text).toBe(true);
    }
  });

  test('overlap or are separate', () => {
    expect(overlap('/backups', '/backups-2')).toBe(false);
    expect(overlap('/backups/copy', '/backups')).toBe(true);
    expect(overlap('s3://acme/shop?region=a', 's3://acme/shop-2?region=a')).toBe(false);
    expect(overlap('s3://acme', 's3://acme/shop')).toBe(true);
    expect(overlap('s3://acme/shop', 's3://acme/shop?endpoint=https://x')).toBe(false);
    expect(nameOf('s3://acme/shop/?region=a')).toBe('s3://acme/shop');
  });

  test('are not inside the destination, and have a region', () => {
    const wrong = (destination: string, text: string, region?: string) =>
      misplaced(destination, copies(text), region).map(({ key, message }) => `${key}: ${message}`);
    expect(wrong('/backups', '/nas')).toEqual([]);
    expect(wrong('/backups', '/backups/copy')).toEqual([
      expect.stringContaining('which is where LIFEBOAT_DESTINATION is'),
    ]);
    expect(wrong('/backups', 's3://acme/shop')).toEqual([expect.stringContaining('for s3://acme/shop')]);
    expect(wrong('/backups', 's3://acme/shop', 'eu-central-1')).toEqual([]);
    expect(wrong('/backups', 's3://acme/shop?profile=elsewhere')).toEqual([]);
  });
});
