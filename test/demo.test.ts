import { describe, expect, test } from 'vitest';
import { compare } from '../docker/demo/fingerprint.ts';
import { slackText } from '../docker/demo/receiver-log.ts';

describe("the demo's comparison", () => {
  const before = new Map([
    ['orders', '2 rows, md5 aa'],
    ['lines', '3 rows, md5 bb'],
  ]);

  test('is equal only if every part is', () => {
    expect(compare(before, new Map(before)).equal).toBe(true);
    const changed = compare(before, new Map([...before, ['lines', '3 rows, md5 cc']]));
    expect(changed.equal).toBe(false);
    expect(changed.lines).toEqual([
      'orders  2 rows, md5 aa  equal',
      'lines   3 rows, md5 bb  NOT EQUAL',
      '        3 rows, md5 cc',
    ]);
  });

  test('sees what is missing and what is too much', () => {
    expect(compare(before, new Map([['orders', '2 rows, md5 aa']])).equal).toBe(false);
    expect(compare(new Map([['orders', '2 rows, md5 aa']]), before).equal).toBe(false);
  });

  test('nothing is not equal to nothing', () => {
    expect(compare(new Map(), new Map()).equal).toBe(false);
  });
});

test('the text of a Slack message is that of its blocks, else the fallback', () => {
  const blocks = [{ text: { text: '*ok*' } }, { elements: [{ text: 'a' }, { text: 'b' }] }];
  expect(slackText(JSON.stringify({ text: 'short', blocks }))).toBe('*ok*\na\nb');
  expect(slackText(JSON.stringify({ text: 'short' }))).toBe('short');
});
