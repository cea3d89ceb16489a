# Perl's DBD::SQLite on a store. Arguments: the extension and the store.
use strict;
use warnings;
use DBI;

my ($extension, $store) = @ARGV;
my $loader = DBI->connect('dbi:SQLite:dbname=:memory:', '', '', {RaiseError => 1});
$loader->sqlite_enable_load_extension(1);
$loader->sqlite_load_extension($extension);

my $dbh = DBI->connect("dbi:SQLite:uri=file:perl.db?vfs=untorn&store=$store", '', '', {RaiseError => 1});
my ($mode) = $dbh->selectrow_array('PRAGMA journal_mode=WAL');
die "journal_mode: $mode" unless $mode eq 'delete';
$dbh->do('CREATE TABLE t(x)');
$dbh->begin_work;
$dbh->do('INSERT INTO t VALUES (?)', undef, $_) for 1 .. 100;
$dbh->commit;
$dbh->begin_work;
$dbh->do('DELETE FROM t');
$dbh->rollback;
my ($sum) = $dbh->selectrow_array('SELECT sum(x) FROM t');
die "sum: $sum" unless $sum == 5050;
$dbh->sqlite_backup_to_file('perl-copy.db');  # the default VFS: a file
my $copy = DBI->connect('dbi:SQLite:dbname=perl-copy.db', '', '', {RaiseError => 1});
($sum) = $copy->selectrow_array('SELECT sum(x) FROM t');
die "sum of the copy: $sum" unless $sum == 5050;
