// In the sheet: Extensions > Apps Script, paste this, then Deploy > New deployment > Web app, execute as me, access for anyone.
const KEY = 'A-LONG-RANDOM-WORD'; // whoever knows it can write here: Apps Script does not show headers, so it is in the address

function doPost(e) {
  if (e.parameter.key !== KEY) throw new Error('wrong key');
  try {
    write(JSON.parse(e.postData.contents));
  } catch (error) {
    console.error(error);
    // Apps Script answers 200 to a script that fails, which says that the row is there. No answer makes hookbolt try again.
    Utilities.sleep(100000);
    throw error;
  }
  return ContentService.createTextOutput('ok');
}

function write(row) {
  const lock = LockService.getScriptLock(); // two calls at once would take the same row
  lock.waitLock(20000);
  try {
    const sheet = SpreadsheetApp.getActiveSpreadsheet().getSheets()[0];
    const columns = sheet.getLastColumn();
    const names = columns ? sheet.getRange(1, 1, 1, columns).getValues()[0].map(String) : [];
    const more = Object.keys(row).filter(name => !names.includes(name));
    if (more.length) {
      const missing = names.length + more.length - sheet.getMaxColumns();
      if (missing > 0) sheet.insertColumnsAfter(sheet.getMaxColumns(), missing);
      sheet.getRange(1, names.length + 1, 1, more.length).setValues([more.map(text)]);
      names.push(...more);
    }
    // The same session again (a retry, an update) is written over its row. Columns that are not from here stay as they are.
    const last = sheet.getLastRow();
    const ids = last > 1 ? sheet.getRange(2, names.indexOf('session') + 1, last - 1, 1).getValues().map(r => String(r[0])) : [];
    const at = ids.indexOf(row.session);
    if (at < 0 && last >= sheet.getMaxRows()) sheet.insertRowsAfter(sheet.getMaxRows(), 100);
    const range = sheet.getRange(at < 0 ? last + 1 : at + 2, 1, 1, names.length);
    const values = range.getValues()[0], formulas = range.getFormulas()[0];
    const ours = name => name in row || /^q-?\d/.test(name);
    range.setValues([names.map((name, i) => ours(name) ? cell(name, row[name]) : formulas[i] || cell(name, values[i]))]);
    SpreadsheetApp.flush();
  } finally {
    lock.releaseLock();
  }
}

function cell(name, value) {
  if (value === undefined || value === null || value === '') return '';
  if (name === 'started' || name === 'finished') return new Date(value);
  return typeof value === 'string' ? text(value) : value;
}

// Keeps 00123, 1-2 and =1+1 as they are: an apostrophe makes a cell text, and is not shown.
function text(value) {
  return value.startsWith("'") ? value : "'" + value;
}
