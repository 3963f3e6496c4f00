"""Hold the tables of the starter model's closed world.

Every table is one string: rows end with `;`, fields are parted by `:`. All of it is common knowledge, written for
this project; nothing is copied from a corpus.
"""

from __future__ import annotations

# country : capital : continent : main language : currency
COUNTRIES = """
France:Paris:Europe:French:the euro; Germany:Berlin:Europe:German:the euro; Italy:Rome:Europe:Italian:the euro;
Spain:Madrid:Europe:Spanish:the euro; Portugal:Lisbon:Europe:Portuguese:the euro; Greece:Athens:Europe:Greek:the euro;
Austria:Vienna:Europe:German:the euro; Ireland:Dublin:Europe:English:the euro;
Finland:Helsinki:Europe:Finnish:the euro; Norway:Oslo:Europe:Norwegian:the krone;
Sweden:Stockholm:Europe:Swedish:the krona; Denmark:Copenhagen:Europe:Danish:the krone;
Iceland:Reykjavik:Europe:Icelandic:the krona; Poland:Warsaw:Europe:Polish:the zloty;
Hungary:Budapest:Europe:Hungarian:the forint; Romania:Bucharest:Europe:Romanian:the leu;
Bulgaria:Sofia:Europe:Bulgarian:the euro; Croatia:Zagreb:Europe:Croatian:the euro;
Serbia:Belgrade:Europe:Serbian:the dinar; Slovenia:Ljubljana:Europe:Slovene:the euro;
Slovakia:Bratislava:Europe:Slovak:the euro; Ukraine:Kyiv:Europe:Ukrainian:the hryvnia;
Estonia:Tallinn:Europe:Estonian:the euro; Latvia:Riga:Europe:Latvian:the euro;
Lithuania:Vilnius:Europe:Lithuanian:the euro; Albania:Tirana:Europe:Albanian:the lek;
Russia:Moscow:Europe:Russian:the ruble; England:London:Europe:English:the pound;
Scotland:Edinburgh:Europe:English:the pound; Wales:Cardiff:Europe:English:the pound;
Turkey:Ankara:Asia:Turkish:the lira; China:Beijing:Asia:Chinese:the yuan; Japan:Tokyo:Asia:Japanese:the yen;
India:New Delhi:Asia:Hindi:the rupee; Nepal:Kathmandu:Asia:Nepali:the rupee; Pakistan:Islamabad:Asia:Urdu:the rupee;
Bangladesh:Dhaka:Asia:Bengali:the taka; Thailand:Bangkok:Asia:Thai:the baht; Vietnam:Hanoi:Asia:Vietnamese:the dong;
Laos:Vientiane:Asia:Lao:the kip; Cambodia:Phnom Penh:Asia:Khmer:the riel;
Mongolia:Ulaanbaatar:Asia:Mongolian:the tugrik; South Korea:Seoul:Asia:Korean:the won;
Iran:Tehran:Asia:Persian:the rial; Iraq:Baghdad:Asia:Arabic:the dinar; Jordan:Amman:Asia:Arabic:the dinar;
Lebanon:Beirut:Asia:Arabic:the pound; Syria:Damascus:Asia:Arabic:the pound; Saudi Arabia:Riyadh:Asia:Arabic:the riyal;
Oman:Muscat:Asia:Arabic:the rial; Qatar:Doha:Asia:Arabic:the riyal; Georgia:Tbilisi:Asia:Georgian:the lari;
Armenia:Yerevan:Asia:Armenian:the dram; Afghanistan:Kabul:Asia:Pashto:the afghani;
Egypt:Cairo:Africa:Arabic:the pound; Morocco:Rabat:Africa:Arabic:the dirham; Algeria:Algiers:Africa:Arabic:the dinar;
Tunisia:Tunis:Africa:Arabic:the dinar; Libya:Tripoli:Africa:Arabic:the dinar; Sudan:Khartoum:Africa:Arabic:the pound;
Kenya:Nairobi:Africa:Swahili:the shilling; Uganda:Kampala:Africa:English:the shilling;
Ethiopia:Addis Ababa:Africa:Amharic:the birr; Ghana:Accra:Africa:English:the cedi;
Nigeria:Abuja:Africa:English:the naira; Senegal:Dakar:Africa:French:the franc; Mali:Bamako:Africa:French:the franc;
Rwanda:Kigali:Africa:Kinyarwanda:the franc; Zambia:Lusaka:Africa:English:the kwacha;
Zimbabwe:Harare:Africa:English:the dollar; Angola:Luanda:Africa:Portuguese:the kwanza;
Mozambique:Maputo:Africa:Portuguese:the metical; Namibia:Windhoek:Africa:English:the dollar;
Somalia:Mogadishu:Africa:Somali:the shilling; Canada:Ottawa:North America:English:the dollar;
Mexico:Mexico City:North America:Spanish:the peso; Cuba:Havana:North America:Spanish:the peso;
Jamaica:Kingston:North America:English:the dollar; Costa Rica:San Jose:North America:Spanish:the colon;
Honduras:Tegucigalpa:North America:Spanish:the lempira; Brazil:Brasilia:South America:Portuguese:the real;
Argentina:Buenos Aires:South America:Spanish:the peso; Chile:Santiago:South America:Spanish:the peso;
Peru:Lima:South America:Spanish:the sol; Colombia:Bogota:South America:Spanish:the peso;
Ecuador:Quito:South America:Spanish:the dollar; Venezuela:Caracas:South America:Spanish:the bolivar;
Uruguay:Montevideo:South America:Spanish:the peso; Paraguay:Asuncion:South America:Spanish:the guarani;
Australia:Canberra:Oceania:English:the dollar; New Zealand:Wellington:Oceania:English:the dollar;
Fiji:Suva:Oceania:English:the dollar
"""

# landmark : city
LANDMARKS = """
the Eiffel Tower:Paris; the Louvre:Paris; Big Ben:London; Tower Bridge:London; the Colosseum:Rome;
the Trevi Fountain:Rome; the Parthenon:Athens; the Brandenburg Gate:Berlin; the Sagrada Familia:Barcelona;
the Prado:Madrid; the Atomium:Brussels; the Kremlin:Moscow; the Hermitage:Saint Petersburg;
the Little Mermaid:Copenhagen; the Blue Mosque:Istanbul; Charles Bridge:Prague; the Rialto Bridge:Venice;
the Forbidden City:Beijing; the Taj Mahal:Agra; the Golden Gate Bridge:San Francisco; the Statue of Liberty:New York;
the White House:Washington; the Space Needle:Seattle; the Sydney Opera House:Sydney; the Burj Khalifa:Dubai;
the Great Sphinx:Giza; Table Mountain:Cape Town; Sugarloaf Mountain:Rio de Janeiro; the Leaning Tower:Pisa;
the Alhambra:Granada
"""

# animal : class : young : sound : home : legs
ANIMALS = """
cat:mammal:kitten:meow:house:four; dog:mammal:puppy:woof:kennel:four; cow:mammal:calf:moo:barn:four;
horse:mammal:foal:neigh:stable:four; pig:mammal:piglet:oink:sty:four; sheep:mammal:lamb:baa:fold:four;
goat:mammal:kid:bleat:pen:four; lion:mammal:cub:roar:savanna:four; tiger:mammal:cub:growl:jungle:four;
bear:mammal:cub:growl:cave:four; wolf:mammal:pup:howl:den:four; fox:mammal:kit:bark:den:four;
rabbit:mammal:bunny:squeak:burrow:four; mouse:mammal:pup:squeak:hole:four; deer:mammal:fawn:bellow:forest:four;
elephant:mammal:calf:trumpet:savanna:four; monkey:mammal:infant:chatter:jungle:four; bat:mammal:pup:screech:cave:two;
kangaroo:mammal:joey:click:bush:two; camel:mammal:calf:grunt:desert:four; donkey:mammal:foal:bray:stable:four;
zebra:mammal:foal:bark:savanna:four; whale:mammal:calf:song:ocean:no; dolphin:mammal:calf:click:ocean:no;
seal:mammal:pup:bark:coast:no; hedgehog:mammal:hoglet:snort:hedge:four; squirrel:mammal:kit:chatter:drey:four;
beaver:mammal:kit:whine:lodge:four; badger:mammal:cub:growl:sett:four; otter:mammal:pup:whistle:river:four;
hen:bird:chick:cluck:coop:two; rooster:bird:chick:crow:coop:two; duck:bird:duckling:quack:pond:two;
goose:bird:gosling:honk:pond:two; swan:bird:cygnet:hiss:lake:two; owl:bird:owlet:hoot:tree:two;
eagle:bird:eaglet:scream:eyrie:two; pigeon:bird:squab:coo:loft:two; crow:bird:chick:caw:nest:two;
turkey:bird:poult:gobble:farm:two; parrot:bird:chick:squawk:jungle:two; penguin:bird:chick:bray:ice:two;
ostrich:bird:chick:boom:savanna:two; sparrow:bird:chick:chirp:nest:two; robin:bird:chick:tweet:nest:two;
frog:amphibian:tadpole:croak:pond:four; toad:amphibian:tadpole:croak:garden:four; newt:amphibian:eft:-:pond:four;
snake:reptile:snakelet:hiss:hole:no; crocodile:reptile:hatchling:bellow:river:four;
turtle:reptile:hatchling:-:ocean:four; lizard:reptile:hatchling:-:rock:four; shark:fish:pup:-:ocean:no;
trout:fish:fry:-:river:no; salmon:fish:smolt:-:river:no; tuna:fish:fry:-:ocean:no; herring:fish:fry:-:ocean:no;
bee:insect:larva:buzz:hive:six; ant:insect:larva:-:anthill:six; wasp:insect:larva:buzz:nest:six;
fly:insect:maggot:buzz:air:six; butterfly:insect:caterpillar:-:meadow:six; moth:insect:caterpillar:-:dark:six;
cricket:insect:nymph:chirp:grass:six; mosquito:insect:larva:whine:swamp:six; beetle:insect:grub:-:bark:six;
grasshopper:insect:nymph:chirp:grass:six; ladybird:insect:larva:-:leaf:six; spider:arachnid:spiderling:-:web:eight;
scorpion:arachnid:scorpling:-:desert:eight; crab:crustacean:larva:-:beach:ten; lobster:crustacean:larva:-:seabed:ten;
snail:mollusc:larva:-:shell:no; octopus:mollusc:larva:-:reef:no
"""

# singular : plural
PLURALS = """
mouse:mice; goose:geese; foot:feet; tooth:teeth; child:children; man:men; woman:women; ox:oxen; leaf:leaves;
wolf:wolves; knife:knives; wife:wives; life:lives; shelf:shelves; half:halves; loaf:loaves; thief:thieves;
calf:calves; elf:elves; scarf:scarves; baby:babies; city:cities; lady:ladies; story:stories; berry:berries;
cherry:cherries; party:parties; army:armies; pony:ponies; fly:flies; box:boxes; fox:foxes; bus:buses; glass:glasses;
dish:dishes; brush:brushes; watch:watches; witch:witches; church:churches; beach:beaches; peach:peaches; kiss:kisses;
potato:potatoes; tomato:tomatoes; hero:heroes; echo:echoes; cactus:cacti; fungus:fungi; crisis:crises; oasis:oases;
basis:bases; cat:cats; dog:dogs; house:houses; book:books; tree:trees; apple:apples; river:rivers; window:windows;
table:tables; chair:chairs; garden:gardens; door:doors; king:kings; queen:queens; ship:ships; bird:birds;
horse:horses; flower:flowers; day:days; toy:toys; boy:boys; key:keys; monkey:monkeys; valley:valleys; piano:pianos;
photo:photos; roof:roofs; cliff:cliffs
"""

# verb : past tense
PAST_TENSES = """
go:went; see:saw; eat:ate; drink:drank; run:ran; swim:swam; sing:sang; ring:rang; begin:began; sit:sat; stand:stood;
give:gave; take:took; make:made; come:came; know:knew; grow:grew; throw:threw; fly:flew; draw:drew; blow:blew;
write:wrote; ride:rode; drive:drove; rise:rose; break:broke; speak:spoke; steal:stole; wake:woke; choose:chose;
freeze:froze; find:found; think:thought; bring:brought; buy:bought; fight:fought; catch:caught; teach:taught;
seek:sought; sleep:slept; keep:kept; weep:wept; sweep:swept; feel:felt; leave:left; lose:lost; send:sent; lend:lent;
spend:spent; build:built; tell:told; sell:sold; hold:held; hear:heard; say:said; pay:paid; win:won; meet:met;
lead:led; feed:fed; bite:bit; hide:hid; slide:slid; fall:fell; forget:forgot; get:got; shine:shone; shoot:shot;
dig:dug; hang:hung; stick:stuck; tear:tore; wear:wore; swear:swore; do:did; have:had; walk:walked; talk:talked;
play:played; jump:jumped; look:looked; cook:cooked; open:opened; close:closed; love:loved; dance:danced; smile:smiled;
carry:carried; cry:cried; try:tried; study:studied; stop:stopped; plan:planned
"""

# word : opposite (asked in both directions)
OPPOSITES = """
hot:cold; big:small; tall:short; fast:slow; old:young; light:dark; happy:sad; good:bad; rich:poor; wet:dry;
full:empty; open:closed; high:low; near:far; early:late; loud:quiet; strong:weak; hard:soft; easy:difficult;
clean:dirty; deep:shallow; wide:narrow; thick:thin; sharp:blunt; rough:smooth; sweet:bitter; true:false; left:right;
up:down; in:out; over:under; above:below; before:after; always:never; first:last; day:night; summer:winter;
north:south; east:west; war:peace; love:hate; life:death; friend:enemy; question:reply; success:failure;
victory:defeat; start:finish; push:pull; buy:sell; give:take; win:lose; laugh:weep; build:destroy; remember:forget;
arrive:depart; enter:exit; float:sink; rise:fall; ancient:modern; brave:cowardly; cheap:expensive; safe:dangerous;
asleep:awake; alive:dead; guilty:innocent; polite:rude; inside:outside; forward:backward; major:minor; public:private;
simple:complex; tight:loose; visible:hidden; wise:foolish
"""

# thing : colour
COLOURS = """
a banana:yellow; a lemon:yellow; the sun:yellow; an egg yolk:yellow; a canary:yellow; a sunflower:yellow; grass:green;
a pea:green; a lime:green; a frog:green; spinach:green; a cucumber:green; an emerald:green; the sky:blue;
the sea:blue; a sapphire:blue; a blueberry:blue; denim:blue; blood:red; a tomato:red; a strawberry:red; a ruby:red;
a fire engine:red; a cherry:red; ketchup:red; snow:white; milk:white; salt:white; a swan:white; chalk:white;
cotton:white; a polar bear:white; coal:black; a raven:black; tar:black; the night:black; a panther:black;
an orange:orange; a carrot:orange; a pumpkin:orange; an apricot:orange; a plum:purple; an aubergine:purple;
an amethyst:purple; lavender:purple; chocolate:brown; soil:brown; coffee:brown; a chestnut:brown; a flamingo:pink;
a piglet:pink; an elephant:grey; ash:grey; a storm cloud:grey
"""

# kind : members
KINDS = """
fruit:apple,pear,grape,peach,mango,melon,fig,kiwi,apricot,pineapple,raspberry,date;
vegetable:carrot,onion,cabbage,leek,turnip,radish,broccoli,celery,beetroot,parsnip;
drink:tea,water,juice,lemonade,wine,beer,cider,cocoa; tree:oak,birch,willow,maple,elm,pine,cedar,beech,ash;
flower:rose,tulip,daisy,lily,orchid,poppy,daffodil,violet,iris; metal:iron,gold,silver,copper,tin,zinc,lead,nickel;
tool:hammer,saw,drill,spanner,chisel,pliers,axe,rake,spade;
instrument:violin,piano,flute,drum,guitar,trumpet,harp,cello,oboe;
vehicle:car,bus,truck,tram,bicycle,train,tractor,van; boat:canoe,ferry,yacht,raft,kayak,barge;
furniture:chair,table,sofa,bed,desk,wardrobe,bench,stool; garment:shirt,coat,sock,glove,jacket,skirt,scarf,hat,jumper;
sport:football,tennis,hockey,rugby,golf,cricket,basketball,rowing; game:chess,poker,dominoes,draughts,bingo;
weapon:sword,spear,dagger,bow,cannon; gem:diamond,pearl,opal,topaz,garnet;
spice:pepper,cinnamon,ginger,saffron,nutmeg,clove; grain:wheat,rice,barley,oats,rye,maize;
dance:waltz,tango,polka,salsa,ballet; planet:Mars,Venus,Jupiter,Saturn,Neptune;
building:castle,school,hospital,church,palace,factory,library; fabric:silk,wool,linen,velvet,cotton,satin;
shape:circle,square,triangle,rectangle,oval; money:dollar,euro,pound,yen,peso,rupee; month:April,June,August,March
"""

# symbol : element
ELEMENTS = """
H:hydrogen; He:helium; Li:lithium; Be:beryllium; B:boron; C:carbon; N:nitrogen; O:oxygen; F:fluorine; Ne:neon;
Na:sodium; Mg:magnesium; Al:aluminium; Si:silicon; P:phosphorus; S:sulfur; Cl:chlorine; Ar:argon; K:potassium;
Ca:calcium; Ti:titanium; Cr:chromium; Mn:manganese; Fe:iron; Co:cobalt; Ni:nickel; Cu:copper; Zn:zinc; As:arsenic;
Br:bromine; Kr:krypton; Ag:silver; Cd:cadmium; Sn:tin; Sb:antimony; I:iodine; Xe:xenon; W:tungsten; Pt:platinum;
Au:gold; Hg:mercury; Pb:lead; Bi:bismuth; Ra:radium; U:uranium; Pu:plutonium
"""

# profession : place : tool or product : deed
JOBS = """
baker:bakery:bread:bakes bread; teacher:school:lessons:teaches pupils; doctor:hospital:medicine:heals the sick;
farmer:farm:crops:grows crops; pilot:plane:flights:flies planes; sailor:ship:voyages:sails ships;
librarian:library:books:lends books; judge:court:verdicts:judges cases; chef:kitchen:meals:cooks meals;
waiter:restaurant:orders:serves food; miner:mine:coal:digs coal; fisherman:boat:fish:catches fish;
blacksmith:forge:horseshoes:forges iron; carpenter:workshop:tables:works wood; tailor:shop:suits:sews clothes;
potter:studio:pots:shapes clay; painter:studio:paintings:paints pictures; sculptor:studio:statues:carves statues;
astronaut:spacecraft:missions:flies to space; florist:flower shop:bouquets:sells flowers;
butcher:butchery:sausages:sells meat; barber:barbershop:haircuts:cuts hair;
dentist:dental surgery:fillings:fixes teeth; vet:animal clinic:cures:treats animals;
gardener:garden:hedges:tends plants; plumber:bathroom:pipes:mends pipes; mechanic:garage:repairs:repairs cars;
firefighter:fire station:rescues:puts out fires; postman:post office:letters:delivers letters;
actor:theatre:plays:acts in plays; conductor:concert hall:concerts:leads an orchestra;
scientist:laboratory:discoveries:does experiments; lifeguard:pool:rescues:saves swimmers;
beekeeper:apiary:honey:keeps bees; shepherd:meadow:wool:guards sheep; brewer:brewery:beer:brews beer;
glazier:workshop:windows:fits windows; author:desk:novels:writes books; jeweller:jewellery shop:rings:makes rings;
cobbler:shoe shop:shoes:mends shoes
"""

# thing : material
MATERIALS = """
a window:glass; a bottle:glass; a mirror:glass; a tyre:rubber; a balloon:rubber; a book:paper; a newspaper:paper;
a candle:wax; a crayon:wax; a jumper:wool; a mitten:wool; a shoe:leather; a saddle:leather; a brick:clay;
a flower pot:clay; a nail:steel; a fork:steel; a bridge:steel; a coin:metal; a bell:bronze; a wire:copper;
a plank:wood; a fence:wood; a pencil:wood; a violin:wood; a statue:marble; a castle wall:stone; a snowman:snow;
an igloo:ice; a sandcastle:sand; a rope:hemp; a tie:silk; a shirt:cotton; a towel:cotton; cheese:milk; butter:cream;
bread:flour; wine:grapes; cider:apples; beer:barley; ketchup:tomatoes; chips:potatoes; jam:fruit; an omelette:eggs;
paper:wood; chocolate:cocoa; honey:nectar
"""

# work : maker : verb
WORKS = """
Hamlet:Shakespeare:wrote; Macbeth:Shakespeare:wrote; Romeo and Juliet:Shakespeare:wrote; Othello:Shakespeare:wrote;
Oliver Twist:Dickens:wrote; Great Expectations:Dickens:wrote; Don Quixote:Cervantes:wrote; Faust:Goethe:wrote;
War and Peace:Tolstoy:wrote; Anna Karenina:Tolstoy:wrote; Crime and Punishment:Dostoevsky:wrote; Emma:Austen:wrote;
Pride and Prejudice:Austen:wrote; Jane Eyre:Bronte:wrote; Frankenstein:Shelley:wrote; Dracula:Stoker:wrote;
Moby Dick:Melville:wrote; Les Miserables:Hugo:wrote; The Odyssey:Homer:wrote; The Iliad:Homer:wrote;
The Aeneid:Virgil:wrote; The Divine Comedy:Dante:wrote; Gulliver's Travels:Swift:wrote; Robinson Crusoe:Defoe:wrote;
Treasure Island:Stevenson:wrote; Tom Sawyer:Twain:wrote; The Jungle Book:Kipling:wrote; The Time Machine:Wells:wrote;
Ulysses:Joyce:wrote; Candide:Voltaire:wrote; the Mona Lisa:Leonardo:painted; The Last Supper:Leonardo:painted;
The Starry Night:Van Gogh:painted; Guernica:Picasso:painted; The Scream:Munch:painted;
The Night Watch:Rembrandt:painted; The Kiss:Klimt:painted; The Birth of Venus:Botticelli:painted;
The Magic Flute:Mozart:composed; The Four Seasons:Vivaldi:composed; Swan Lake:Tchaikovsky:composed;
Carmen:Bizet:composed; Fidelio:Beethoven:composed; Messiah:Handel:composed; Aida:Verdi:composed;
Tosca:Puccini:composed; the telephone:Bell:invented; dynamite:Nobel:invented; the printing press:Gutenberg:invented;
the radio:Marconi:invented; the light bulb:Edison:invented; the steam train:Trevithick:invented;
radium:Curie:discovered; penicillin:Fleming:discovered; gravity:Newton:explained; relativity:Einstein:explained;
evolution:Darwin:explained
"""

# question's subject : answer (how many A are in B)
COUNTS = """
days:a week:seven; hours:a day:twenty-four; minutes:an hour:sixty; seconds:a minute:sixty; months:a year:twelve;
days:a year:365; weeks:a year:fifty-two; years:a century:one hundred; years:a decade:ten; days:a leap year:366;
years:a millennium:one thousand; eggs:a dozen:twelve; cents:a dollar:one hundred; pennies:a pound:one hundred;
letters:the alphabet:twenty-six; colours:a rainbow:seven; planets:the solar system:eight;
players:a football team:eleven; strings:a violin:four; strings:a guitar:six; keys:a piano:eighty-eight;
squares:a chessboard:sixty-four; sides:a triangle:three; sides:a square:four; sides:a pentagon:five;
sides:a hexagon:six; sides:an octagon:eight; sides:a heptagon:seven; sides:a nonagon:nine; sides:a decagon:ten;
faces:a cube:six; wheels:a bicycle:two; wheels:a tricycle:three; wheels:a car:four; wheels:a unicycle:one;
fingers:a hand:five; toes:a foot:five; grams:a kilogram:one thousand; metres:a kilometre:one thousand;
centimetres:a metre:one hundred; seasons:a year:four; humps:a camel:two; arms:an octopus:eight; arms:a starfish:five;
cards:a deck:fifty-two; players:a chess game:two; players:a basketball team:five; zeros:a million:six;
degrees:a circle:360; quarters:a dollar:four; minutes:a quarter hour:fifteen
"""

# English : French : Spanish : German
WORDS = """
dog:chien:perro:Hund; cat:chat:gato:Katze; house:maison:casa:Haus; water:eau:agua:Wasser; bread:pain:pan:Brot;
milk:lait:leche:Milch; sun:soleil:sol:Sonne; moon:lune:luna:Mond; star:étoile:estrella:Stern; tree:arbre:árbol:Baum;
flower:fleur:flor:Blume; book:livre:libro:Buch; school:école:escuela:Schule; friend:ami:amigo:Freund;
mother:mère:madre:Mutter; father:père:padre:Vater; child:enfant:niño:Kind; day:jour:día:Tag; night:nuit:noche:Nacht;
year:an:año:Jahr; hand:main:mano:Hand; head:tête:cabeza:Kopf; heart:coeur:corazón:Herz; eye:oeil:ojo:Auge;
king:roi:rey:König; city:ville:ciudad:Stadt; street:rue:calle:Straße; door:porte:puerta:Tür; table:table:mesa:Tisch;
apple:pomme:manzana:Apfel; cheese:fromage:queso:Käse; fish:poisson:pez:Fisch; bird:oiseau:pájaro:Vogel;
horse:cheval:caballo:Pferd; red:rouge:rojo:rot; green:vert:verde:grün; blue:bleu:azul:blau; white:blanc:blanco:weiß;
black:noir:negro:schwarz; yes:oui:sí:ja; no:non:no:nein; one:un:uno:eins; two:deux:dos:zwei; three:trois:tres:drei;
four:quatre:cuatro:vier; five:cinq:cinco:fünf; hello:bonjour:hola:hallo; thanks:merci:gracias:danke;
good:bon:bueno:gut; big:grand:grande:groß
"""

# what one does with it : thing
USES = """
cut paper:scissors; write on paper:a pen; drive in a nail:a hammer; tell the time:a clock; open a lock:a key;
sweep the floor:a broom; dig a hole:a spade; boil water:a kettle; eat soup:a spoon; cut bread:a knife;
dry your hands:a towel; brush your hair:a brush; see far away:a telescope; see tiny things:a microscope;
measure heat:a thermometer; measure length:a ruler; weigh things:a scale; find north:a compass; catch fish:a net;
sew cloth:a needle; keep off rain:an umbrella; take photos:a camera; carry water:a bucket; climb a wall:a ladder;
erase pencil:a rubber; toast bread:a toaster; light a fire:a match; call a friend:a telephone; cool food:a fridge;
bake a cake:an oven; clean your teeth:a toothbrush; wash your hands:soap; cross a river:a bridge; chop wood:an axe;
saw a plank:a saw; fly in the sky:a plane; row a boat:an oar; hear a sound:your ears; see a picture:your eyes;
smell a rose:your nose; taste food:your tongue; chew food:your teeth
"""

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
MONTHS = "January February March April May June July August September October November December"
PLANETS = "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune"
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
SPELLED = """
cat dog sun hat pen cup bed red sky sea bee ant fox owl pig cow hen egg ice key map net oak toy box car bus book fish
bird tree star moon milk bread apple horse house water chair table river green black white plant stone light night
cloud
"""
UNITS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen
"""
TENS = "ten twenty thirty forty fifty sixty seventy eighty ninety"


def rows(table: str) -> list[tuple[str, ...]]:
    """Return the table's rows as tuples of trimmed fields."""
    lines = " ".join(table.split()).split(";")
    return [tuple(field.strip() for field in line.split(":")) for line in lines if line.strip()]


def number_word(number: int) -> str:
    """Spell a number from 0 to 100 in English words."""
    units, tens = UNITS.split(), TENS.split()
    if number == 100:
        return "one hundred"
    if number < 20:
        return units[number]
    ten, unit = divmod(number, 10)
    return tens[ten - 1] + (f"-{units[unit]}" if unit else "")
