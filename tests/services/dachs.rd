<resource schema="ring">
  <meta name="title">A sky for tests</meta>
  <meta name="description">Stars and images that nobody has ever seen.</meta>
  <meta name="creationDate">2026-11-22T00:00:00Z</meta>
  <meta name="subject">surveys</meta>
  <meta name="creator.name">Chance</meta>

  <table id="stars" onDisk="True" adql="True">
    <mixin>//scs#q3cindex</mixin>
    <primary>star</primary>
    <column name="star" type="bigint" ucd="meta.id;meta.main" required="True" description="number"/>
    <column name="ra" type="double precision" unit="deg" ucd="pos.eq.ra;meta.main" description="right ascension"/>
    <column name="dec" type="double precision" unit="deg" ucd="pos.eq.dec;meta.main" description="declination"/>
    <column name="mag" type="real" unit="mag" ucd="phot.mag" description="brightness"/>
    <column name="name" type="text" description="name"/>
  </table>
  <data id="import_stars">
    <sources>data/stars.csv</sources>
    <csvGrammar/>
    <make table="stars"><rowmaker idmaps="*"/></make>
  </data>

  <table id="images" onDisk="True" adql="True">
    <mixin dataproduct_type="'image'" obs_collection="'ring'" obs_id="image" obs_publisher_did="'ivo://ring/'||image" obs_title="image"
      access_url="'http://127.0.0.1/'||image" access_format="'image/fits'" access_estsize="1" s_ra="ra" s_dec="dec" s_fov="0.4"
      s_region="outline" t_min="mjd" t_max="mjd+0.0002" t_exptime="15" em_min="5e-7" em_max="6e-7" o_ucd="'phot.count'" s_resolution="1"
      facility_name="'none'" instrument_name="'none'" target_name="'none'" preview="NULL">//obscore#publish</mixin>
    <primary>image</primary>
    <column name="image" type="text" required="True" description="name"/>
    <column name="ra" type="double precision" unit="deg" ucd="pos.eq.ra" description="right ascension"/>
    <column name="dec" type="double precision" unit="deg" ucd="pos.eq.dec" description="declination"/>
    <column name="outline" type="spoly" description="what it shows"/>
    <column name="mjd" type="double precision" unit="d" ucd="time.epoch" description="begin"/>
  </table>
  <data id="import_images">
    <sources>data/images.csv</sources>
    <csvGrammar/>
    <make table="images">
      <rowmaker idmaps="image,ra,dec,mjd">
        <!-- Four corners, one number after the other. -->
        <map dest="outline">pgsphere.SPoly.fromDALI([
          float(@ra)-.2, float(@dec)-.2, float(@ra)+.2, float(@dec)-.2,
          float(@ra)+.2, float(@dec)+.2, float(@ra)-.2, float(@dec)+.2])</map>
      </rowmaker>
    </make>
  </data>
</resource>
